// Several sums over the channels of one token by one block, each always in the same order: it depends on C alone.
#pragma once
#include "cuda/math.h"

namespace birkhoff::cuda {

// A block serves one token: eight channels per thread and pass.
inline unsigned threads_per_token(int64_t channels) {
  const int64_t wanted = ceil_div(ceil_div(channels, 8), 32) * 32;
  return static_cast<unsigned>(wanted < 32 ? 32 : wanted < 256 ? wanted : 256);
}

// Lane l gets the sum of v[l] over the warp: at each step a lane keeps the half of the values that its number names and
// gives the other half away, 31 exchanges instead of 160.
template <int Half = 16>
__device__ __forceinline__ float transpose_sum(float (&v)[32]) {
  const bool upper = (threadIdx.x & Half) != 0;
#pragma unroll
  for (int k = 0; k < Half; ++k) {
    const float given = upper ? v[k] : v[k + Half];
    const float kept = upper ? v[k + Half] : v[k];
    v[k] = kept + __shfl_xor_sync(0xffffffffu, given, Half);
  }
  if constexpr (Half > 1) return transpose_sum<Half / 2>(v);
  return v[0];
}

// The block's sums of `Count` values per thread, given to write(index, sum). shared: [warps][Count].
template <int Count, class Write>
__device__ __forceinline__ void sum_over_block(const float (&values)[Count], float* shared, const Write& write) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
#pragma unroll
  for (int first = 0; first < Count; first += 32) {
    float group[32];
#pragma unroll
    for (int k = 0; k < 32; ++k) group[k] = first + k < Count ? values[first + k < Count ? first + k : 0] : 0.0f;
    const float sum = transpose_sum(group);
    if (first + static_cast<int>(lane) < Count) shared[warp * Count + first + lane] = sum;
  }
  __syncthreads();
  for (int k = threadIdx.x; k < Count; k += blockDim.x) {
    float total = shared[k];
    for (unsigned w = 1; w < warps; ++w) total += shared[w * Count + k];
    write(k, total);
  }
}

}  // namespace birkhoff::cuda
