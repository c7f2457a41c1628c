// Working memory of each thread, for blocks that a kernel packs, widens or rounds. Compiled once, not per
// instruction set.
#pragma once
#include <cstdint>

namespace birkhoff::cpu {

// The packed panels of the built-in matrix product (cpu/gemm_kernel.cpp), apart from the rest: kernels call it with
// their own blocks in kernel_workspace.
inline constexpr int64_t kGemmWorkspace = 96 * 256 + 256 * 256;
inline constexpr int64_t kKernelWorkspace = 160 * 1024;

float* gemm_workspace();    // kGemmWorkspace floats, aligned to 64 bytes
float* kernel_workspace();  // kKernelWorkspace floats, aligned to 64 bytes

// For a tile of tokens: as large as wanted, 64-byte aligned, kept and grown on demand. Throws Error(kOutOfMemoryError).
float* tile_workspace(int64_t floats);

}  // namespace birkhoff::cpu
