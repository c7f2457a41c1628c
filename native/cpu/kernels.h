// Declares every CPU kernel in the namespace of the instruction set being compiled.
#pragma once
#include "cpu/simd.h"
#include "ops/kernels.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
#define X(name, js, Args) void name(const Args& args);
BIRKHOFF_KERNELS(X)
#undef X
}  // namespace birkhoff::cpu::BIRKHOFF_ISA
