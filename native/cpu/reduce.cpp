// Sums over an axis on CPU; see ops/reduce.h for shapes and order.
#include "cpu/kernels.h"
#include "cpu/vectors.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int64_t kColumnsPerTask = 2048;  // 8 KB of running sums: they stay in the first cache

// inner = 1: each piece is contiguous.
template <class T>
BIRKHOFF_INLINE void sum_rows(const ReduceAxisArgs& args, const T* x, const T* factor, float* partial) {
  const int64_t chunk = reduce_chunk(args.count, 1), pieces = reduce_pieces(args.count, 1);
  // Short rows share a task.
  const int64_t per_task = max64(1, chunk / max64(1, min64(args.count, chunk)));
  const int64_t total = args.outer * pieces;
  parallel(ceil_div(total, per_task), [&](int64_t task) {
    for (int64_t p = task * per_task; p < min64(total, (task + 1) * per_task); ++p) {
      const int64_t begin = p % pieces * chunk, at = p / pieces * args.count + begin;
      const int64_t size = min64(chunk, args.count - begin);
      if (factor)
        partial[p] = sum_vectors(size, [&](int64_t i, auto count) BIRKHOFF_VECTOR_BODY {
          return load_some(x + at + i, count) * load_some(factor + at + i, count);
        });
      else
        partial[p] =
            sum_vectors(size, [&](int64_t i, auto count) BIRKHOFF_VECTOR_BODY { return load_some(x + at + i, count); });
    }
  });
}

// inner > 1: running sums of a block of columns, row after row.
template <class T>
BIRKHOFF_INLINE void sum_columns(const ReduceAxisArgs& args, const T* x, const T* factor, float* partial) {
  const int64_t chunk = reduce_chunk(args.count, args.inner), pieces = reduce_pieces(args.count, args.inner);
  const int64_t blocks = ceil_div(args.inner, kColumnsPerTask);
  parallel(args.outer * pieces * blocks, [&](int64_t task) {
    const int64_t block = task % blocks, piece = task / blocks;
    const int64_t first = piece % pieces * chunk, last = min64(args.count, first + chunk);
    const int64_t left = block * kColumnsPerTask, right = min64(args.inner, left + kColumnsPerTask);
    float* sums = partial + piece * args.inner;
    for (int64_t c = left; c < right; ++c) sums[c] = 0.0f;
    for (int64_t k = first; k < last; ++k) {
      const int64_t row = (piece / pieces * args.count + k) * args.inner;
      for_vectors(left, right, [&](int64_t c, auto count) BIRKHOFF_VECTOR_BODY {
        vf v = load_some(x + row + c, count);
        if (factor) v *= load_some(factor + row + c, count);
        store_some(sums + c, load_some(sums + c, count) + v, count);
      });
    }
  });
}

// Pairs of neighbours, again and again: the error grows with the logarithm of the number of pieces.
BIRKHOFF_INLINE float sum_pieces(float* piece, int64_t count, int64_t stride) {
  for (int64_t left = count; left > 1; left = (left + 1) / 2)
    for (int64_t i = 0; i < (left + 1) / 2; ++i) {
      const float second = 2 * i + 1 < left ? piece[(2 * i + 1) * stride] : 0.0f;
      piece[i * stride] = piece[2 * i * stride] + second;
    }
  return count ? piece[0] : 0.0f;
}

}  // namespace

void reduce_axis(const ReduceAxisArgs& args) {
  if (args.outer == 0 || args.inner == 0) return;
  float* partial = static_cast<float*>(args.scratch);
  const int64_t inner = args.inner, pieces = reduce_pieces(args.count, inner);
  const float divisor = static_cast<float>(args.divisor);
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = decltype(type);
    const T x = static_cast<T>(args.x.data), factor = static_cast<T>(args.factor.data),
            out = static_cast<T>(args.out.data);
    if (inner == 1)
      sum_rows(args, x, factor, partial);
    else
      sum_columns(args, x, factor, partial);
    const int64_t total = args.outer * inner;
    parallel(ceil_div(total, 1024), [&](int64_t task) {
      for (int64_t i = task * 1024; i < min64(total, (task + 1) * 1024); ++i)
        from_float(sum_pieces(partial + i / inner * pieces * inner + i % inner, pieces, inner) / divisor, out[i]);
    });
  });
}

void broadcast_axis(const BroadcastAxisArgs& args) {
  const int64_t count = args.count, inner = args.inner;
  const vf divisor = broadcast(static_cast<float>(args.divisor));
  if (args.out.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = decltype(type);
    const T x = static_cast<T>(args.x.data), out = static_cast<T>(args.out.data);
    // A run is a stretch of out made from one element (inner = 1) or one row of x.
    const int64_t length = inner == 1 ? count : inner;
    parallel(ceil_div(args.out.size, kElementsPerTask), [&](int64_t task) {
      const int64_t end = min64(args.out.size, (task + 1) * kElementsPerTask);
      for (int64_t i = task * kElementsPerTask; i < end;) {
        const int64_t run = min64(end - i, length - i % length);
        if (inner == 1) {
          const vf value = broadcast(to_float(x[i / count])) / divisor;
          for_vectors(i, i + run, [&](int64_t k, auto some) BIRKHOFF_VECTOR_BODY { store_some(out + k, value, some); });
        } else {
          const T row = x + i / (count * inner) * inner + i % inner;
          for_vectors(0, run, [&](int64_t k, auto some) BIRKHOFF_VECTOR_BODY {
            store_some(out + i + k, load_some(row + k, some) / divisor, some);
          });
        }
        i += run;
      }
    });
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
