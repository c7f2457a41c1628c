// How kernels are written and started: the same source for nvcc and for the executor of test/cuda-emu.
//
// Shared memory: BIRKHOFF_SHARED(float, tile, [32][33]) and BIRKHOFF_DYNAMIC_SHARED(float, tile). No <<<>>>: launch().
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>
#include <utility>

#include "core/view.h"
#include "cuda/context.h"

#ifdef BIRKHOFF_CUDA_EMULATED
#define BIRKHOFF_SHARED(T, name, ...) CUDA_EMU_SHARED(T, name, __VA_ARGS__)
#define BIRKHOFF_SHARED_ALIGNED(bytes, T, name, ...) CUDA_EMU_SHARED_ALIGNED(bytes, T, name, __VA_ARGS__)
#define BIRKHOFF_DYNAMIC_SHARED(T, name) CUDA_EMU_DYN_SHARED(T, name)
#else
#define BIRKHOFF_SHARED(T, name, ...) __shared__ T name __VA_ARGS__
#define BIRKHOFF_SHARED_ALIGNED(bytes, T, name, ...) \
  __shared__ __align__(bytes)                        \
  T name __VA_ARGS__
#define BIRKHOFF_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char birkhoff_dynamic_shared[]; \
  T* name = reinterpret_cast<T*>(birkhoff_dynamic_shared)
#endif

// Where ops/*.h put their per-token maths.
#define BIRKHOFF_MATH birkhoff::cuda

namespace birkhoff::cuda {

// Starts a kernel on the compute stream of the device that the calling thread serves.
template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, const A&... args) {
  Context& context = current();
  // Without it, static and dynamic together may have 48 KB.
  if (shared_bytes > 32 * 1024)
    context.check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)),
                  "cudaFuncSetAttribute");
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = context.compute;
  context.check(cudaLaunchKernelEx(&config, kernel, static_cast<P>(args)...), "kernel launch");
  context.note_launch(reinterpret_cast<const void*>(kernel));
}

inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Blocks of a loop over `items` with a grid's stride: enough to fill the device, no more than there are items for.
inline unsigned grid_for(int64_t items, int64_t per_block) {
  const int64_t most = int64_t{current().multiprocessors} * 16, wanted = ceil_div(items, per_block);
  return static_cast<unsigned>(wanted < most ? wanted : most);
}

inline bool aligned16(const void* data) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0;
}
template <class... V>
bool aligned16(const View& first, const V&... rest) {
  return (aligned16(first.data) && ... && aligned16(rest.data));
}

// Calls body with a typed null pointer for the view's element type: float or bfloat16.
template <class F>
void with_float_type(DType dtype, const F& body) {
  if (dtype == DType::kBFloat16)
    body(static_cast<bfloat16*>(nullptr));
  else
    body(static_cast<float*>(nullptr));
}

// Calls body with std::integral_constant<int, n>, n = 1, 2, 4 or 8 (checked at the binding).
template <class F>
void with_streams(int64_t n, const F& body) {
  if (n == 1) body(std::integral_constant<int, 1>{});
  if (n == 2) body(std::integral_constant<int, 2>{});
  if (n == 4) body(std::integral_constant<int, 4>{});
  if (n == 8) body(std::integral_constant<int, 8>{});
}

// Whether kernels for n streams load 16 bytes at a time. One stream is the plain residual, which has faster ops: for it
// the path for any width is enough.
template <int n, class F>
void with_vectors(bool possible, const F& body) {
  if constexpr (n > 1) {
    if (possible) return body(std::true_type{});
  }
  body(std::false_type{});
}

template <class F>
void with_bool(bool value, const F& body) {
  if (value)
    body(std::true_type{});
  else
    body(std::false_type{});
}

}  // namespace birkhoff::cuda
