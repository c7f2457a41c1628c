// The matrix product of one task, for kernels: OpenBLAS where it is available, else the built-in kernel.
#pragma once
#include "cpu/gemm.h"
#include "cpu/simd.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

// Any sizes, zero included. See GemmCall.
void gemm(const GemmCall& call);

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
