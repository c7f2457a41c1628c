// Sums over an axis on CUDA; see ops/reduce.h for shapes and for where the axis is cut. Each piece is summed by one
// warp, one block or one thread per column, in an order that its length alone decides; then the pieces are.
#include "cuda/math.h"
#include "ops/reduce.h"

namespace birkhoff::cuda {
namespace {

constexpr int kReduceThreads = 256;
constexpr int kColumnThreads = 128;
constexpr int64_t kWarpRow = 1024;  // rows up to here are summed by a warp

// inner = 1, one piece by `blockDim.x` threads, blockDim.y pieces a block. Sums go to partial, or where there is only
// one piece per row, divided, to out.
template <bool Vector, class T>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_rows_kernel(const T* x, const T* factor, float* partial, T* out, int64_t outer, int64_t count, int64_t chunk,
                       int64_t pieces, float divisor) {
  BIRKHOFF_SHARED(float, scratch, [kReduceThreads / 32]);
  const int64_t total = outer * pieces, step = int64_t{gridDim.x} * blockDim.y;
  for (int64_t p = int64_t{blockIdx.x} * blockDim.y + threadIdx.y; p < total; p += step) {
    const int64_t begin = p % pieces * chunk, at = p / pieces * count + begin;
    const int64_t size = count - begin < chunk ? count - begin : chunk;
    float sums[8] = {};
#pragma unroll 4
    for (int64_t i = int64_t{threadIdx.x} * 8; i < size; i += int64_t{blockDim.x} * 8) {
      float v[8];
      load_some<Vector>(x + at + i, size - i, v);
      if (factor) {
        float f[8];
        load_some<Vector>(factor + at + i, size - i, f);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[k] *= f[k];
      }
#pragma unroll
      for (int k = 0; k < 8; ++k) sums[k] += v[k];
    }
    const float own = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
    const float sum = blockDim.x == 32 ? sum_warp(own) : sum_block(own, scratch);
    if (threadIdx.x != 0) continue;
    if (pieces == 1)
      from_float(sum / divisor, out[p]);
    else
      partial[p] = sum;
  }
}

// inner > 1: running sums of eight columns (or one), row after row of a piece.
template <bool Vector, class T>
__global__ void __launch_bounds__(kColumnThreads)
    columns_kernel(const T* x, const T* factor, float* partial, int64_t count, int64_t inner, int64_t chunk,
                   int64_t pieces, int64_t groups, int64_t total) {
  constexpr int kWidth = Vector ? 8 : 1;
  const int64_t step = int64_t{kColumnThreads} * gridDim.x;
  for (int64_t task = int64_t{blockIdx.x} * kColumnThreads + threadIdx.x; task < total; task += step) {
    const int64_t piece = task / groups, c = task % groups * kWidth;
    const int64_t first = piece % pieces * chunk, last = count - first < chunk ? count : first + chunk;
    int64_t at = (piece / pieces * count + first) * inner + c;
    float sums[8] = {};
#pragma unroll 4
    for (int64_t k = first; k < last; ++k, at += inner) {
      float v[8];
      load_some<Vector>(x + at, kWidth, v);
      if (factor) {
        float f[8];
        load_some<Vector>(factor + at, kWidth, f);
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] *= f[i];
      }
#pragma unroll
      for (int i = 0; i < 8; ++i) sums[i] += v[i];
    }
    store_some<Vector>(partial + piece * inner + c, kWidth, sums);
  }
}

// out = (sum of the pieces) / divisor: by a block where there may be thousands (inner = 1), else by a thread.
template <class T>
__global__ void __launch_bounds__(kReduceThreads)
    fold_rows_kernel(const float* partial, int64_t pieces, int64_t outer, float divisor, T* out) {
  BIRKHOFF_SHARED(float, scratch, [kReduceThreads / 32]);
  for (int64_t o = blockIdx.x; o < outer; o += gridDim.x) {
    float sum = 0.0f;
    for (int64_t p = threadIdx.x; p < pieces; p += kReduceThreads) sum += partial[o * pieces + p];
    sum = sum_block(sum, scratch);
    if (threadIdx.x == 0) from_float(sum / divisor, out[o]);
  }
}

template <class T>
__global__ void __launch_bounds__(kReduceThreads)
    fold_columns_kernel(const float* partial, int64_t pieces, int64_t inner, int64_t total, float divisor, T* out) {
  const int64_t step = int64_t{kReduceThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kReduceThreads + threadIdx.x; i < total; i += step) {
    const float* piece = partial + i / inner * pieces * inner + i % inner;
    float sum = 0.0f;
#pragma unroll 8
    for (int64_t p = 0; p < pieces; ++p) sum += piece[p * inner];
    from_float(sum / divisor, out[i]);
  }
}

// out_oki = x_oi / divisor; a group of eight elements of out has one o and k (inner divisible by eight), or one o
// (inner = 1, count divisible by eight).
template <bool Vector, class T>
__global__ void __launch_bounds__(kReduceThreads)
    broadcast_kernel(const T* x, T* out, int64_t size, int64_t count, int64_t inner, float divisor) {
  constexpr int kWidth = Vector ? 8 : 1;
  const int64_t step = int64_t{kWidth} * kReduceThreads * gridDim.x;
  for (int64_t i = (int64_t{blockIdx.x} * kReduceThreads + threadIdx.x) * kWidth; i < size; i += step) {
    float v[8];
    if (Vector && inner == 1) {
      const float one = to_float(x[i / count]);
#pragma unroll
      for (int k = 0; k < 8; ++k) v[k] = one;
    } else {
      load_some<Vector>(x + i / (count * inner) * inner + i % inner, kWidth, v);
    }
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = v[k] / divisor;
    store_some<Vector>(out + i, kWidth, v);
  }
}

template <class T>
void sum_rows(const ReduceAxisArgs& args) {
  const int64_t pieces = reduce_pieces(args.count, 1), chunk = reduce_chunk(args.count, 1);
  float* const partial = static_cast<float*>(args.scratch);
  T* const out = args.out.as<T>();
  const float divisor = static_cast<float>(args.divisor);
  if (pieces > 0) {
    const dim3 block = args.count <= kWarpRow ? dim3(32, kReduceThreads / 32) : dim3(kReduceThreads, 1);
    with_bool(args.count % 8 == 0 && aligned16(args.x, args.factor), [&](auto vector) {
      launch(reduce_rows_kernel<vector(), T>, grid_for(args.outer * pieces, block.y), block, 0, args.x.as<T>(),
             args.factor.as<T>(), partial, out, args.outer, args.count, chunk, pieces, divisor);
    });
  }
  if (pieces == 1) return;
  launch(fold_rows_kernel<T>, grid_for(args.outer, 1), kReduceThreads, 0, partial, pieces, args.outer, divisor, out);
}

template <class T>
void sum_columns(const ReduceAxisArgs& args) {
  const int64_t pieces = reduce_pieces(args.count, args.inner), chunk = reduce_chunk(args.count, args.inner);
  float* const partial = static_cast<float*>(args.scratch);
  if (pieces > 0)
    with_bool(args.inner % 8 == 0 && aligned16(args.x, args.factor), [&](auto vector) {
      const int64_t groups = vector() ? args.inner / 8 : args.inner, total = args.outer * pieces * groups;
      launch(columns_kernel<vector(), T>, grid_for(total, kColumnThreads), kColumnThreads, 0, args.x.as<T>(),
             args.factor.as<T>(), partial, args.count, args.inner, chunk, pieces, groups, total);
    });
  const int64_t total = args.outer * args.inner;
  launch(fold_columns_kernel<T>, grid_for(total, kReduceThreads), kReduceThreads, 0, partial, pieces, args.inner, total,
         static_cast<float>(args.divisor), args.out.as<T>());
}

}  // namespace

void reduce_axis(const ReduceAxisArgs& args) {
  if (args.outer == 0 || args.inner == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    args.inner == 1 ? sum_rows<T>(args) : sum_columns<T>(args);
  });
}

void broadcast_axis(const BroadcastAxisArgs& args) {
  if (args.out.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const bool whole = args.inner == 1 ? args.count % 8 == 0 : args.inner % 8 == 0;
    with_bool(whole && aligned16(args.x, args.out), [&](auto vector) {
      constexpr int kWidth = vector() ? 8 : 1;
      launch(broadcast_kernel<vector(), T>, grid_for(args.out.size, kWidth * kReduceThreads), kReduceThreads, 0,
             args.x.as<T>(), args.out.as<T>(), args.out.size, args.count, args.inner, static_cast<float>(args.divisor));
    });
  });
}

}  // namespace birkhoff::cuda
