// Sums over an axis on CUDA; see ops/reduce.h for shapes and order. Pieces of the axis are summed apart, then folded
// pair by pair as on the CPU.
#include "cuda/math.h"
#include "ops/reduce.h"

namespace birkhoff::cuda {
namespace {

constexpr int kThreads = 256;

// inner = 1: a warp per piece.
template <class T>
__global__ void __launch_bounds__(kThreads) sum_rows_kernel(const T* x, const T* factor, int64_t total, int64_t pieces,
                                                            int64_t chunk, int64_t count, float* partial) {
  const int lane = threadIdx.x % 32;
  const int64_t p = int64_t{blockIdx.x} * (kThreads / 32) + threadIdx.x / 32;
  if (p >= total) return;
  const int64_t begin = p % pieces * chunk, end = begin + chunk < count ? begin + chunk : count;
  const int64_t row = p / pieces * count;
  float sum = 0.0f;
  for (int64_t i = begin + lane; i < end; i += 32)
    sum += factor ? to_float(x[row + i]) * to_float(factor[row + i]) : to_float(x[row + i]);
  sum = sum_warp(sum);
  if (lane == 0) partial[p] = sum;
}

// inner > 1: a thread per piece and column.
template <class T>
__global__ void __launch_bounds__(kThreads)
    sum_columns_kernel(const T* x, const T* factor, int64_t total, int64_t pieces, int64_t chunk, int64_t count,
                       int64_t inner, float* partial) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= total) return;
  const int64_t c = at % inner, piece = at / inner, first = piece % pieces * chunk;
  const int64_t last = first + chunk < count ? first + chunk : count;
  float sum = 0.0f;
  for (int64_t k = first; k < last; ++k) {
    const int64_t i = (piece / pieces * count + k) * inner + c;
    sum += factor ? to_float(x[i]) * to_float(factor[i]) : to_float(x[i]);
  }
  partial[at] = sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    fold_kernel(float* partial, int64_t total, int64_t pieces, int64_t inner, float divisor, T* out) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= total) return;
  float* const piece = partial + i / inner * pieces * inner + i % inner;
  // Pairs of neighbours, again and again: the error grows with the logarithm of the number of pieces.
  for (int64_t left = pieces; left > 1; left = (left + 1) / 2)
    for (int64_t k = 0; k < (left + 1) / 2; ++k)
      piece[k * inner] = piece[2 * k * inner] + (2 * k + 1 < left ? piece[(2 * k + 1) * inner] : 0.0f);
  from_float((pieces ? piece[0] : 0.0f) / divisor, out[i]);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    broadcast_kernel(const T* x, T* out, int64_t size, int64_t count, int64_t inner, float divisor) {
  const int64_t step = int64_t{kThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += step)
    from_float(to_float(x[i / (count * inner) * inner + i % inner]) / divisor, out[i]);
}

unsigned blocks_for(int64_t items) {
  return static_cast<unsigned>(ceil_div(items, kThreads));
}

}  // namespace

void reduce_axis(const ReduceAxisArgs& args) {
  const int64_t inner = args.inner, outputs = args.outer * inner;
  if (outputs == 0) return;
  float* const partial = static_cast<float*>(args.scratch);
  const int64_t chunk = reduce_chunk(args.count, inner), pieces = reduce_pieces(args.count, inner);
  const int64_t total = outputs * pieces;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T *x = args.x.as<T>(), *factor = args.factor.as<T>();
    if (total > 0 && inner == 1)
      launch(sum_rows_kernel<T>, static_cast<unsigned>(ceil_div(total, kThreads / 32)), kThreads, 0, x, factor, total,
             pieces, chunk, args.count, partial);
    else if (total > 0)
      launch(sum_columns_kernel<T>, blocks_for(total), kThreads, 0, x, factor, total, pieces, chunk, args.count, inner,
             partial);
    launch(fold_kernel<T>, blocks_for(outputs), kThreads, 0, partial, outputs, pieces, inner,
           static_cast<float>(args.divisor), args.out.as<T>());
  });
}

void broadcast_axis(const BroadcastAxisArgs& args) {
  if (args.out.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(broadcast_kernel<T>, grid_for(args.out.size, kThreads), kThreads, 0, args.x.as<T>(), args.out.as<T>(),
           args.out.size, args.count, args.inner, static_cast<float>(args.divisor));
  });
}

}  // namespace birkhoff::cuda
