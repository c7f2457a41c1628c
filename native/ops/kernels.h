// The kernel table: one line per kernel. The same list registers the addon's functions (bindings/ops.cpp).
//   X(native name, JavaScript name, Args)
#pragma once
#include "ops/sinkhorn.h"

#define BIRKHOFF_KERNELS(X)                                        \
  X(sinkhorn_forward, sinkhornForward, SinkhornForwardArgs)        \
  X(sinkhorn_backward, sinkhornBackward, SinkhornBackwardArgs)

namespace birkhoff {

// A missing entry throws "X: not available on <device>".
struct Kernels {
#define X(name, js, Args) void (*name)(const Args& args) = nullptr;
  BIRKHOFF_KERNELS(X)
#undef X
};

}  // namespace birkhoff
