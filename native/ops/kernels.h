// The kernel table: one line per kernel. The same list registers the addon's functions (bindings/ops.cpp).
//   X(native name, JavaScript name, Args)
#pragma once
#include "ops/creation.h"
#include "ops/elementwise.h"
#include "ops/mhc_post.h"
#include "ops/mhc_pre.h"
#include "ops/network_ends.h"
#include "ops/norm.h"
#include "ops/reduce.h"
#include "ops/sinkhorn.h"
#include "ops/strided_copy.h"

#define BIRKHOFF_KERNELS(X)                                        \
  X(sinkhorn_forward, sinkhornForward, SinkhornForwardArgs)        \
  X(sinkhorn_backward, sinkhornBackward, SinkhornBackwardArgs)     \
  X(mhc_pre_forward, mhcPreForward, MhcPreForwardArgs)             \
  X(mhc_pre_backward, mhcPreBackward, MhcPreBackwardArgs)          \
  X(mhc_post_forward, mhcPostForward, MhcPostForwardArgs)          \
  X(mhc_post_backward, mhcPostBackward, MhcPostBackwardArgs)       \
  X(expand, expand, NetworkEndArgs)                                \
  X(contract, contract, NetworkEndArgs)                            \
  X(fill, fill, FillArgs)                                          \
  X(randn, randn, RandnArgs)                                       \
  X(cast, cast, CastArgs)                                          \
  X(add, add, AddArgs)                                             \
  X(mul, mul, MulArgs)                                             \
  X(scale, scale, ScaleArgs)                                       \
  X(silu_forward, siluForward, SiluForwardArgs)                    \
  X(silu_backward, siluBackward, SiluBackwardArgs)                 \
  X(gelu_forward, geluForward, GeluForwardArgs)                    \
  X(gelu_backward, geluBackward, GeluBackwardArgs)                 \
  X(swiglu_forward, swigluForward, SwigluForwardArgs)              \
  X(swiglu_backward, swigluBackward, SwigluBackwardArgs)           \
  X(rms_norm_forward, rmsNormForward, RmsNormForwardArgs)          \
  X(rms_norm_backward, rmsNormBackward, RmsNormBackwardArgs)       \
  X(layer_norm_forward, layerNormForward, LayerNormForwardArgs)    \
  X(layer_norm_backward, layerNormBackward, LayerNormBackwardArgs) \
  X(reduce_axis, reduceAxis, ReduceAxisArgs)                       \
  X(broadcast_axis, broadcastAxis, BroadcastAxisArgs)              \
  X(strided_copy, stridedCopy, StridedCopyArgs)

namespace birkhoff {

// A missing entry throws "X: not available on <device>".
struct Kernels {
#define X(name, js, Args) void (*name)(const Args& args) = nullptr;
  BIRKHOFF_KERNELS(X)
#undef X
};

}  // namespace birkhoff
