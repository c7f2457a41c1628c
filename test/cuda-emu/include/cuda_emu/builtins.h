// Keywords, built-in variables, shared memory, barriers and fences.
#pragma once
#include <cuda_runtime_api.h>

#include "cuda_emu/executor.h"

// A static array per block cannot be had from a declaration: the macros below ask the executor for it.
#undef __shared__
#define __shared__ CUDA_EMU_ERROR_declare_shared_memory_with_the_macros_of_launch_h
#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif
#undef __align__
#define __align__(n) __attribute__((aligned(n)))

// CUDA_EMU_SHARED(float, tile, [32][33]);
#define CUDA_EMU_SHARED_ALIGNED(alignment, T, name, ...)                                      \
  typedef T name##_cuda_emu_type __VA_ARGS__;                                                 \
  static char name##_cuda_emu_key;                                                            \
  name##_cuda_emu_type& name = *static_cast<name##_cuda_emu_type*>(::cuda_emu::shared_static( \
      &name##_cuda_emu_key, sizeof(name##_cuda_emu_type), (alignment), ::cuda_emu::Site{__FILE__, __LINE__}))
#define CUDA_EMU_SHARED(T, name, ...) CUDA_EMU_SHARED_ALIGNED(alignof(T), T, name, __VA_ARGS__)
// CUDA_EMU_DYN_SHARED(float4, buffer);
#define CUDA_EMU_DYN_SHARED(T, name) \
  T* name = static_cast<T*>(::cuda_emu::shared_dynamic(16, ::cuda_emu::Site{__FILE__, __LINE__}))

inline constexpr const uint3& threadIdx = cuda_emu::context.thread;
inline constexpr const uint3& blockIdx = cuda_emu::context.block;
inline constexpr const dim3& blockDim = cuda_emu::context.block_dim;
inline constexpr const dim3& gridDim = cuda_emu::context.grid_dim;
inline constexpr int warpSize = 32;

inline void __syncthreads(CUDA_EMU_SITE) {
  cuda_emu::barrier(0, -1, 0, cuda_emu::kNone, cuda_emu_site);
}
inline int __syncthreads_count(int predicate, CUDA_EMU_SITE) {
  return cuda_emu::barrier(0, -1, predicate, cuda_emu::kCount, cuda_emu_site);
}
inline int __syncthreads_and(int predicate, CUDA_EMU_SITE) {
  return cuda_emu::barrier(0, -1, predicate, cuda_emu::kAnd, cuda_emu_site);
}
inline int __syncthreads_or(int predicate, CUDA_EMU_SITE) {
  return cuda_emu::barrier(0, -1, predicate, cuda_emu::kOr, cuda_emu_site);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_EMU_SITE) {
  cuda_emu::syncwarp(mask, cuda_emu_site);
}
inline void __threadfence() {
  cuda_emu::fence(true);
}
inline void __threadfence_block() {
  cuda_emu::fence(false);
}
inline void __threadfence_system() {
  cuda_emu::fence(true);
}
inline void __nanosleep(unsigned) {}
[[noreturn]] inline void __trap() {
  cuda_emu::fail(cudaErrorLaunchFailure, "__trap()");
}
