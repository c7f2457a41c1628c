// Rows of contiguous elements, one block per row: what a row's result is depends on its own elements and on their
// number alone. Threads of a block: threads_per_token(columns).
#pragma once
#include "cuda/token_sums.h"

namespace birkhoff::cuda {

constexpr int kRowThreads = 256;  // the most that threads_per_token gives

// Blocks for rows; a kernel loops with the grid's stride for more than there can be.
inline unsigned row_blocks(int64_t rows) {
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  return static_cast<unsigned>(rows < kMost ? rows : kMost);
}

// f(first, count) for this thread's groups of eight elements; count is what is left of the row from there.
template <class F>
__device__ __forceinline__ void for_groups(int64_t columns, const F& f) {
#pragma unroll 2
  for (int64_t c = int64_t{threadIdx.x} * 8; c < columns; c += int64_t{blockDim.x} * 8) f(c, columns - c);
}

// Element k of a group is in the row.
template <bool Vector>
__device__ __forceinline__ bool inside(int k, int64_t count) {
  return Vector || k < count;
}

// The largest element of a row and the sum of exp(x - largest), in one read: where the maximum rises, the sum so far
// shrinks. NaN in the row makes the sum NaN; so does a row of nothing but -infinity, or of nothing.
struct MaxAndSum {
  float top, sum;
};

template <bool Vector, class T>
__device__ __forceinline__ MaxAndSum max_and_sum_exp(const T* x, int64_t columns, float* scratch) {
  const float lowest = -__builtin_huge_valf();
  float top = lowest, sum = 0.0f;
  for_groups(columns, [&](int64_t c, int64_t count) {
    float v[8];
    load_some<Vector>(x + c, count, v);
    float higher = top;
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (inside<Vector>(k, count)) higher = vmax(v[k], higher);
    if (higher != top) sum *= vexp(top - higher);
    top = higher;
    // -infinity adds nothing, also while there is nothing else.
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (inside<Vector>(k, count)) sum += v[k] == lowest ? 0.0f : vexp(v[k] - top);
  });
  const float highest = max_block(top, scratch);
  return {highest, sum_block(sum * vexp(top - highest), scratch)};
}

}  // namespace birkhoff::cuda
