// The kernel table: one line per kernel. The same list registers the addon's functions (bindings/ops.cpp).
//   X(native name, JavaScript name, Args)
#pragma once
#include "ops/adamw.h"
#include "ops/attention.h"
#include "ops/creation.h"
#include "ops/cross_entropy.h"
#include "ops/dropout.h"
#include "ops/elementwise.h"
#include "ops/embedding.h"
#include "ops/gradient_norm.h"
#include "ops/matmul.h"
#include "ops/mhc_post.h"
#include "ops/mhc_pre.h"
#include "ops/network_ends.h"
#include "ops/norm.h"
#include "ops/reduce.h"
#include "ops/seam.h"
#include "ops/sinkhorn.h"
#include "ops/softmax.h"
#include "ops/strided_copy.h"

#define BIRKHOFF_KERNELS(X)                                                 \
  X(sinkhorn_forward, sinkhornForward, SinkhornForwardArgs)                 \
  X(sinkhorn_backward, sinkhornBackward, SinkhornBackwardArgs)              \
  X(mhc_pre_forward, mhcPreForward, MhcPreForwardArgs)                      \
  X(mhc_pre_backward, mhcPreBackward, MhcPreBackwardArgs)                   \
  X(mhc_post_forward, mhcPostForward, MhcPostForwardArgs)                   \
  X(mhc_post_backward, mhcPostBackward, MhcPostBackwardArgs)                \
  X(seam_forward, seamForward, SeamForwardArgs)                             \
  X(expand, expand, NetworkEndArgs)                                         \
  X(contract, contract, NetworkEndArgs)                                     \
  X(fill, fill, FillArgs)                                                   \
  X(randn, randn, RandnArgs)                                                \
  X(cast, cast, CastArgs)                                                   \
  X(add, add, AddArgs)                                                      \
  X(mul, mul, MulArgs)                                                      \
  X(scale, scale, ScaleArgs)                                                \
  X(silu_forward, siluForward, SiluForwardArgs)                             \
  X(silu_backward, siluBackward, SiluBackwardArgs)                          \
  X(gelu_forward, geluForward, GeluForwardArgs)                             \
  X(gelu_backward, geluBackward, GeluBackwardArgs)                          \
  X(swiglu_forward, swigluForward, SwigluForwardArgs)                       \
  X(swiglu_backward, swigluBackward, SwigluBackwardArgs)                    \
  X(rms_norm_forward, rmsNormForward, RmsNormForwardArgs)                   \
  X(rms_norm_backward, rmsNormBackward, RmsNormBackwardArgs)                \
  X(layer_norm_forward, layerNormForward, LayerNormForwardArgs)             \
  X(layer_norm_backward, layerNormBackward, LayerNormBackwardArgs)          \
  X(reduce_axis, reduceAxis, ReduceAxisArgs)                                \
  X(broadcast_axis, broadcastAxis, BroadcastAxisArgs)                       \
  X(strided_copy, stridedCopy, StridedCopyArgs)                             \
  X(block_copy, blockCopy, BlockCopyArgs)                                   \
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
