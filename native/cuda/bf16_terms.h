// A float as a sum of bfloat16 terms, so that tensor cores multiply floats: the first term carries 8 bits of the
// mantissa, the next one what is left, and so on; three hold all 24. A product of two such sums keeps the pairs whose
// weight is above the last term's: 1, 3 or 6 of them.
#pragma once
#include "cuda/math.h"

namespace birkhoff::cuda {

// Two floats to `Terms` registers of packed pairs (low half: first).
template <int Terms>
__device__ __forceinline__ void split_pair(float first, float second, uint32_t (&pairs)[Terms]) {
#pragma unroll
  for (int p = 0; p < Terms; ++p) {
    pairs[p] = pack_pair(first, second);
    first -= low_half(pairs[p]);
    second -= high_half(pairs[p]);
  }
}

// How many terms an element of the streams has.
template <class T>
inline constexpr int kTermsOf = std::is_same_v<T, bfloat16> ? 1 : 3;

}  // namespace birkhoff::cuda
