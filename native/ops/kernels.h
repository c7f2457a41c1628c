// The kernel table: one line per kernel. The same list registers the addon's functions (bindings/ops.cpp).
//   X(native name, JavaScript name, Args)
#pragma once
#include "ops/adamw.h"
#include "ops/attention.h"
#include "ops/cross_entropy.h"
#include "ops/dropout.h"
#include "ops/embedding.h"
#include "ops/gradient_norm.h"
#include "ops/matmul.h"
#include "ops/sinkhorn.h"
#include "ops/softmax.h"

#define BIRKHOFF_KERNELS(X)                                                 \
  X(sinkhorn_forward, sinkhornForward, SinkhornForwardArgs)                 \
  X(sinkhorn_backward, sinkhornBackward, SinkhornBackwardArgs)              \
  X(matmul, matmul, MatmulArgs)                                             \
  X(column_sum, columnSum, ColumnSumArgs)                                   \
  X(embedding_forward, embeddingForward, EmbeddingForwardArgs)              \
  X(embedding_backward, embeddingBackward, EmbeddingBackwardArgs)           \
  X(attention_forward, attentionForward, AttentionForwardArgs)              \
  X(attention_backward, attentionBackward, AttentionBackwardArgs)           \
  X(softmax_forward, softmaxForward, SoftmaxForwardArgs)                    \
  X(softmax_backward, softmaxBackward, SoftmaxBackwardArgs)                 \
  X(cross_entropy_forward, crossEntropyForward, CrossEntropyForwardArgs)    \
  X(cross_entropy_backward, crossEntropyBackward, CrossEntropyBackwardArgs) \
  X(dropout, dropout, DropoutArgs)                                          \
  X(adamw, adamw, AdamWArgs)                                                \
  X(sum_squares, sumSquares, SumSquaresArgs)                                \
  X(square_root, squareRoot, SquareRootArgs)                                \
  X(clip_scale, clipScale, ClipScaleArgs)

namespace birkhoff {

// A missing entry throws "X: not available on <device>".
struct Kernels {
#define X(name, js, Args) void (*name)(const Args& args) = nullptr;
  BIRKHOFF_KERNELS(X)
#undef X
};

}  // namespace birkhoff
