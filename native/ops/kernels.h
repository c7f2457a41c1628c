// The kernel table: one line per kernel. The same list registers the addon's functions (bindings/ops.cpp).
//   X(native name, JavaScript name, Args)
#pragma once
#include "ops/mhc_post.h"
#include "ops/mhc_pre.h"
#include "ops/network_ends.h"
#include "ops/sinkhorn.h"

#define BIRKHOFF_KERNELS(X)                                        \
  X(sinkhorn_forward, sinkhornForward, SinkhornForwardArgs)        \
  X(sinkhorn_backward, sinkhornBackward, SinkhornBackwardArgs)     \
  X(mhc_pre_forward, mhcPreForward, MhcPreForwardArgs)             \
  X(mhc_pre_backward, mhcPreBackward, MhcPreBackwardArgs)          \
  X(mhc_post_forward, mhcPostForward, MhcPostForwardArgs)          \
  X(mhc_post_backward, mhcPostBackward, MhcPostBackwardArgs)       \
  X(expand, expand, NetworkEndArgs)                                \
  X(contract, contract, NetworkEndArgs)

namespace birkhoff {

// A missing entry throws "X: not available on <device>".
struct Kernels {
#define X(name, js, Args) void (*name)(const Args& args) = nullptr;
  BIRKHOFF_KERNELS(X)
#undef X
};

}  // namespace birkhoff
