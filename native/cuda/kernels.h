// Declares every CUDA kernel's launcher, called by the device's dispatch thread.
#pragma once
#include "ops/kernels.h"

namespace birkhoff::cuda {
#define X(name, js, Args) void name(const Args& args);
BIRKHOFF_KERNELS(X)
#undef X
}  // namespace birkhoff::cuda
