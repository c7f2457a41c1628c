// Eight consecutive elements of a stream as they lie in memory. A load can be on its way while it is nobody's operand
// yet, and pairs of bfloat16 are mma's operands as they are.
#pragma once
#include "cuda/math.h"

namespace birkhoff::cuda {

template <class T>
struct Packed8 {
  uint32_t words[2 * sizeof(T)];
};

__device__ __forceinline__ void unpack8(const Packed8<float>& packed, float (&v)[8]) {
#pragma unroll
  for (int k = 0; k < 8; ++k) v[k] = __uint_as_float(packed.words[k]);
}
__device__ __forceinline__ void unpack8(const Packed8<bfloat16>& packed, float (&v)[8]) {
#pragma unroll
  for (int k = 0; k < 4; ++k) v[2 * k] = low_half(packed.words[k]), v[2 * k + 1] = high_half(packed.words[k]);
}
__device__ __forceinline__ void pack8(const float (&v)[8], Packed8<float>& packed) {
#pragma unroll
  for (int k = 0; k < 8; ++k) packed.words[k] = __float_as_uint(v[k]);
}
__device__ __forceinline__ void pack8(const float (&v)[8], Packed8<bfloat16>& packed) {
#pragma unroll
  for (int k = 0; k < 4; ++k) packed.words[k] = pack_pair(v[2 * k], v[2 * k + 1]);
}

// Columns c .. c + 7 of a row of C. Past its end they are zero, or with Vector (C a multiple of 8) of no meaning: no
// condition holds the load up, see or_zero.
template <bool Vector, class T>
__device__ __forceinline__ Packed8<T> load_packed(const T* row, int64_t c, int64_t C) {
  Packed8<T> packed;
  if constexpr (Vector) {
    const uint4* source = reinterpret_cast<const uint4*>(row + (c < C ? c : 0));
#pragma unroll
    for (int k = 0; k < static_cast<int>(sizeof(T)) / 2; ++k) {
      const uint4 quarter = source[k];
      packed.words[4 * k] = quarter.x, packed.words[4 * k + 1] = quarter.y;
      packed.words[4 * k + 2] = quarter.z, packed.words[4 * k + 3] = quarter.w;
    }
  } else {
    float v[8];
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = c + k < C ? to_float(row[c + k]) : 0.0f;
    pack8(v, packed);
  }
  return packed;
}
template <class T>
__device__ __forceinline__ Packed8<T> or_zero(bool wanted, Packed8<T> packed) {
#pragma unroll
  for (uint32_t& word : packed.words) word = wanted ? word : 0;
  return packed;
}
// The same as floats, zero past the end: takes the fewest registers, one load after the other.
template <bool Vector, class T>
__device__ __forceinline__ void load_inside(const T* row, int64_t c, int64_t C, float (&v)[8]) {
  if (c < C)
    unpack8(load_packed<Vector>(row, c, C), v);
  else
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = 0.0f;
}
// The columns below C, where wanted.
template <bool Vector, class T>
__device__ __forceinline__ void store_packed(bool wanted, T* row, int64_t c, int64_t C, const Packed8<T>& packed) {
  if constexpr (Vector) {
    uint4* target = reinterpret_cast<uint4*>(row + c);
#pragma unroll
    for (int k = 0; k < static_cast<int>(sizeof(T)) / 2; ++k)
      ptx::store16_if(wanted && c < C, target + k, packed.words[4 * k], packed.words[4 * k + 1],
                      packed.words[4 * k + 2], packed.words[4 * k + 3]);
  } else {
    float v[8];
    unpack8(packed, v);
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (wanted && c + k < C) from_float(v[k], row[c + k]);
  }
}

}  // namespace birkhoff::cuda
