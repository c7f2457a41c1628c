// c = op(a) op(b) where an operand is float32, by float32 multiply-adds: a sum of k products errs by at most k steps of
// 2^-24, infinities and subnormal numbers keep their meaning. A bfloat16 operand is widened as it is loaded.
#include "cuda/gemm_tile.h"

namespace birkhoff::cuda {
namespace {

constexpr int kGemmFloat32Threads = 256;
template <int Tile>
constexpr int kFloatSlice = 4 * kGemmFloat32Threads / Tile;  // each thread loads four elements of either operand
constexpr int kFloatPad = 4;                                 // floats: rows of the tile keep their 16-byte boundaries

// One operand as a block sees it: element (span, depth), span along m or n from the tile's edge, depth along k.
template <class T>
struct FloatOperand {
  const T* data;
  int64_t row;       // elements from one row in memory to the next
  int spans;         // inside the matrix, at most the tile
  bool depth_inner;  // neighbours in memory are neighbours in depth
  bool vector;       // rows begin where four elements can be loaded at once
};

template <int Tile, class T>
__device__ __forceinline__ FloatOperand<T> operand(const void* matrix, int64_t first, int64_t span_end,
                                                   int64_t depth_end, bool depth_inner, bool vector) {
  const T* data = static_cast<const T*>(matrix) + (depth_inner ? first * depth_end : first);
  const int64_t spans = span_end - first;
  return {data, depth_inner ? depth_end : span_end, static_cast<int>(spans < Tile ? spans : Tile), depth_inner, vector};
}

__device__ __forceinline__ void load4(const float* p, float (&v)[4]) {
  const float4 x = *reinterpret_cast<const float4*>(p);
  v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
}
__device__ __forceinline__ void load4(const bfloat16* p, float (&v)[4]) {
  const uint2 x = *reinterpret_cast<const uint2*>(p);
  v[0] = low_half(x.x), v[1] = high_half(x.x), v[2] = low_half(x.y), v[3] = high_half(x.y);
}

// Where the calling thread's four elements stand in a tile.
template <int Tile>
__device__ __forceinline__ void four_at(bool depth_inner, int& span, int& depth) {
  const int four = static_cast<int>(threadIdx.x);
  span = depth_inner ? four / (kFloatSlice<Tile> / 4) : four % (Tile / 4) * 4;
  depth = depth_inner ? four % (kFloatSlice<Tile> / 4) * 4 : four / (Tile / 4);
}

// The calling thread's part of a tile, `depths` deep from depth0, into registers: zeros outside.
template <int Tile, class T>
__device__ __forceinline__ void fetch(float (&v)[4], const FloatOperand<T>& from, int64_t depth0, int depths) {
  int span, depth;
  four_at<Tile>(from.depth_inner, span, depth);
  const T* source =
      from.data + (from.depth_inner ? span * from.row + depth0 + depth : (depth0 + depth) * from.row + span);
  const bool row_inside = from.depth_inner ? span < from.spans : depth < depths;
  const int inside = !row_inside ? 0 : from.depth_inner ? depths - depth : from.spans - span;
  if (from.vector && inside > 0) {
    load4(source, v);
  } else {
#pragma unroll
    for (int e = 0; e < 4; ++e) v[e] = e < inside ? to_float(source[e]) : 0.0f;
  }
}

template <int Tile>
using Slice = float[kFloatSlice<Tile>][Tile + kFloatPad];  // [depth][span]

template <int Tile>
__device__ __forceinline__ void place(Slice<Tile>& tile, const float (&v)[4], bool depth_inner) {
  int span, depth;
  four_at<Tile>(depth_inner, span, depth);
  if (depth_inner) {
#pragma unroll
    for (int e = 0; e < 4; ++e) tile[depth + e][span] = v[e];
  } else {
    *reinterpret_cast<float4*>(&tile[depth][span]) = make_float4(v[0], v[1], v[2], v[3]);
  }
}

// A thread computes Tile / 64 by Tile / 64 squares of 4 x 4, 64 apart.
template <class TA, class TB, int Tile>
__global__ void __launch_bounds__(kGemmFloat32Threads, 2)
    gemm_float32_kernel(const Gemm g, bool vector_a, bool vector_b) {
  constexpr int squares = Tile / 64, width = 4 * squares;
  BIRKHOFF_SHARED_ALIGNED(16, float, left, [2][kFloatSlice<Tile>][Tile + kFloatPad]);
  BIRKHOFF_SHARED_ALIGNED(16, float, right, [2][kFloatSlice<Tile>][Tile + kFloatPad]);
  int64_t row0, column0;
  tile_origin(g, Tile, row0, column0);
  const int row = threadIdx.x / 16 * 4, column = threadIdx.x % 16 * 4;
  const int64_t steps = (g.k + kFloatSlice<Tile> - 1) / kFloatSlice<Tile>;
  for (int64_t matrix = blockIdx.y; matrix < g.batch; matrix += gridDim.y) {
    const auto a =
        operand<Tile, TA>(static_cast<const TA*>(g.a) + matrix * g.a_stride, row0, g.m, g.k, !g.transpose_a, vector_a);
    const auto b = operand<Tile, TB>(static_cast<const TB*>(g.b) + matrix * g.b_stride, column0, g.n, g.k,
                                     g.transpose_b, vector_b);
    float sums[width][width] = {};
    float next_a[4], next_b[4];
    const auto fetch_slice = [&](int64_t step) {
      const int64_t depth = step * kFloatSlice<Tile>, rest = g.k - depth;
      const int depths = static_cast<int>(rest < kFloatSlice<Tile> ? rest : kFloatSlice<Tile>);
      fetch<Tile>(next_a, a, depth, depths);
      fetch<Tile>(next_b, b, depth, depths);
    };
    fetch_slice(0);
    for (int64_t step = 0; step < steps; ++step) {
      auto& slice_a = left[step % 2];
      auto& slice_b = right[step % 2];
      place<Tile>(slice_a, next_a, a.depth_inner);
      place<Tile>(slice_b, next_b, b.depth_inner);
      __syncthreads();  // one barrier a step: the other slice is free once all have come here
      if (step + 1 < steps) fetch_slice(step + 1);
#pragma unroll
      for (int depth = 0; depth < kFloatSlice<Tile>; ++depth) {
        float x[squares][4], y[squares][4];
#pragma unroll
        for (int s = 0; s < squares; ++s)
          load4(&slice_a[depth][64 * s + row], x[s]), load4(&slice_b[depth][64 * s + column], y[s]);
#pragma unroll
        for (int i = 0; i < width; ++i)
#pragma unroll
          for (int j = 0; j < width; ++j) sums[i][j] = vfma(x[i / 4][i % 4], y[j / 4][j % 4], sums[i][j]);
      }
    }
    __syncthreads();  // before the next matrix overwrites what a slower warp still reads
#pragma unroll
    for (int i = 0; i < width; ++i)
#pragma unroll
      for (int j = 0; j < width; j += 2)
        store_pair(g, matrix * g.c_stride, row0 + i / 4 * 64 + row + i % 4, column0 + j / 4 * 64 + column + j % 4,
                   sums[i][j], sums[i][j + 1]);
  }
}

}  // namespace

void float32_gemm(const Gemm& g) {
  const bool vector_a = vector_rows<4>(g.a, g.transpose_a ? g.m : g.k, g.a_stride);
  const bool vector_b = vector_rows<4>(g.b, g.transpose_b ? g.k : g.n, g.b_stride);
  with_float_type(g.a_type, [&](auto* a) {
    with_float_type(g.b_type, [&](auto* b) {
      using A = std::remove_pointer_t<decltype(a)>;
      using B = std::remove_pointer_t<decltype(b)>;
      if constexpr (std::is_same_v<A, float> || std::is_same_v<B, float>)
        with_bool(wants_large_tiles(g), [&](auto large) {
          constexpr int tile = large() ? 128 : 64;
          launch(gemm_float32_kernel<A, B, tile>, tile_grid(g, tile), kGemmFloat32Threads, 0, g, vector_a, vector_b);
        });
    });
  });
}

}  // namespace birkhoff::cuda
