// What both GEMM kernels share: which tile of c a block computes, and how sums become results.
#pragma once
#include "cuda/gemm.h"
#include "cuda/math.h"

namespace birkhoff::cuda {

// Matrices that a grid has blocks for: grid.y's limit, and in executor builds few, so that small tests loop.
#ifdef BIRKHOFF_CUDA_EMULATED
inline constexpr int64_t kMostMatrices = 2;
#else
inline constexpr int64_t kMostMatrices = 65535;
#endif

// A tile of `extent` x `extent` per block and matrix, consecutive blocks down the rows of c.
inline dim3 tile_grid(const Gemm& g, int64_t extent) {
  return dim3(static_cast<unsigned>(ceil_div(g.m, extent) * ceil_div(g.n, extent)),
              static_cast<unsigned>(g.batch < kMostMatrices ? g.batch : kMostMatrices));
}
// Large tiles read each operand less often. Small ones where the large are too few for the device, or stand out so far
// that they compute half as much again.
inline bool wants_large_tiles(const Gemm& g) {
  const int64_t large = ceil_div(g.m, 128) * ceil_div(g.n, 128), small = ceil_div(g.m, 64) * ceil_div(g.n, 64);
  return g.batch * large >= current().multiprocessors && 8 * large <= 3 * small;
}
__device__ __forceinline__ void tile_origin(const Gemm& g, int extent, int64_t& row, int64_t& column) {
  const unsigned tiles = static_cast<unsigned>((g.m + extent - 1) / extent);
  row = int64_t{blockIdx.x % tiles} * extent;
  column = int64_t{blockIdx.x / tiles} * extent;
}

__device__ __forceinline__ float load_as_float(const void* data, DType type, int64_t at) {
  return type == DType::kBFloat16 ? to_float(static_cast<const bfloat16*>(data)[at])
                                  : static_cast<const float*>(data)[at];
}

__device__ __forceinline__ float finish(const Gemm& g, int64_t at, int64_t column, float sum) {
  float value = g.scale * sum;
  if (g.bias) value += load_as_float(g.bias, g.bias_type, column);
  if (g.accumulate) value += load_as_float(g.c, g.c_type, at);
  return value;
}

// Two neighbouring results; column is even. Writes nothing outside c.
__device__ __forceinline__ void store_pair(const Gemm& g, int64_t matrix, int64_t row, int64_t column, float first,
                                           float second) {
  if (row >= g.m || column >= g.n) return;
  const int64_t at = matrix + row * g.n + column;
  const bool both = column + 1 < g.n;
  first = finish(g, at, column, first);
  if (both) second = finish(g, at + 1, column + 1, second);
  if (g.c_type == DType::kBFloat16) {
    bfloat16* c = static_cast<bfloat16*>(g.c) + at;
    if (both && reinterpret_cast<uintptr_t>(c) % 4 == 0) {
      *reinterpret_cast<uint32_t*>(c) = pack_pair(first, second);
    } else {
      c[0] = to_bfloat16(first);
      if (both) c[1] = to_bfloat16(second);
    }
  } else {
    float* c = static_cast<float*>(g.c) + at;
    if (both && reinterpret_cast<uintptr_t>(c) % 8 == 0) {
      *reinterpret_cast<float2*>(c) = make_float2(first, second);
    } else {
      c[0] = first;
      if (both) c[1] = second;
    }
  }
}

// Rows of `inner` elements, matrices `stride` apart, all beginning at whole vectors.
template <int width>
bool vector_rows(const void* data, int64_t inner, int64_t stride) {
  return aligned16(data) && inner % width == 0 && stride % width == 0;
}

}  // namespace birkhoff::cuda
