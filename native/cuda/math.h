// What the per-token maths of ops/*.h is written over, for one float per thread, and loads of several elements at once.
// Products and sums are fused only where vfma says so (the build forbids contraction), so the same source rounds the
// same way in every kernel and on the executor.
#pragma once
#include "core/dtype.h"
#include "core/host_device.h"
#include "cuda/launch.h"  // and BIRKHOFF_MATH, before any header of ops
#include "cuda/ptx.h"

namespace birkhoff::cuda {

template <class V>
MHC_HD V vbroadcast(float v) {
  return v;
}
MHC_HD float vfma(float a, float b, float c) {
  return fmaf(a, b, c);
}
// a > b ? a : b, so b where one is NaN: as on the CPU.
MHC_HD float vmax(float a, float b) {
  return a > b ? a : b;
}
MHC_HD float vmin(float a, float b) {
  return a < b ? a : b;
}
MHC_HD float vselect(bool mask, float a, float b) {
  return mask ? a : b;
}
MHC_HD bool vany(bool mask) {
  return mask;
}
MHC_HD float vsqrt(float v) {
  return sqrtf(v);
}
// 1 / v, correctly rounded, for v in [2^-126, 2^126) or NaN. The instructions of nvcc's division where v is in that
// range, without its test and its call for other v, across which nothing else can be scheduled.
MHC_HD float vreciprocal(float v) {
#if defined(__CUDA_ARCH__) && !defined(BIRKHOFF_CUDA_EMULATED)
  const float near = ptx::approximate_reciprocal(v);
  return fmaf(near, fmaf(-v, near, 1.0f), near);
#else
  return 1.0f / v;
#endif
}

MHC_HD float vlog(float x) {
  return logf(x);
}

// exp within 1.5 ulp (Cody-Waite reduction, degree 6): the CPU's, with the CPU's bits.
MHC_HD float vexp(float x) {
  const float clamped = vmin(vmax(x, -87.336544f), 88.722839f);
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = vfma(clamped, 1.44269504f, magic);
  const float n = shifted - magic;
  float r = vfma(n, -0.693359375f, clamped);
  r = vfma(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = vfma(p, r, 1.3981999507e-3f);
  p = vfma(p, r, 8.3334519073e-3f);
  p = vfma(p, r, 4.1665795894e-2f);
  p = vfma(p, r, 1.6666665459e-1f);
  p = vfma(p, r, 5.0000001201e-1f);
  p = vfma(p, r * r, r) + 1.0f;
  // 2^n in two factors, since n = 128 has no exponent of its own.
  uint32_t bits;
  memcpy(&bits, &shifted, 4);
  const int k = static_cast<int>(bits) - 0x4b400000, half = k >> 1;
  const uint32_t low = static_cast<uint32_t>(half + 127) << 23, high = static_cast<uint32_t>(k - half + 127) << 23;
  float a, b;
  memcpy(&a, &low, 4), memcpy(&b, &high, 4);
  p = p * a * b;
  p = x < -87.336544f ? 0.0f : p;
  p = x > 88.722839f ? __builtin_huge_valf() : p;
  return x != x ? x : p;
}
// exp(x + rest) for x <= 0 and |rest| below 1e-3, in fewer steps: one factor 2^n is enough. 0 below -87.3.
MHC_HD float vexp_negative(float x, float rest) {
  const float clamped = vmax(x, -87.336544f);
  const float magic = 12582912.0f;
  const float shifted = vfma(clamped, 1.44269504f, magic);
  const float n = shifted - magic;
  float r = vfma(n, -0.693359375f, clamped);
  r = vfma(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = vfma(p, r, 1.3981999507e-3f);
  p = vfma(p, r, 8.3334519073e-3f);
  p = vfma(p, r, 4.1665795894e-2f);
  p = vfma(p, r, 1.6666665459e-1f);
  p = vfma(p, r, 5.0000001201e-1f);
  p = vfma(p, r * r, r) + 1.0f;
  uint32_t scale, bits;
  memcpy(&scale, &shifted, 4), memcpy(&bits, &p, 4);
  bits += scale << 23;
  memcpy(&p, &bits, 4);
  p = vfma(p, rest, p);
  p = x < -87.336544f ? 0.0f : p;
  return x != x ? x : p;
}
MHC_HD float vsigmoid(float x) {
  return 1.0f / (1.0f + vexp(-x));
}
MHC_HD float vtanh(float x) {
  return 1.0f - 2.0f / (vexp(2.0f * x) + 1.0f);
}

// ---- 16 bytes at a time
// ------------------------------------------------------------------------------------------------

__device__ __forceinline__ float low_half(uint32_t pair) {
  return __uint_as_float(pair << 16);
}
__device__ __forceinline__ float high_half(uint32_t pair) {
  return __uint_as_float(pair & 0xffff0000u);
}
// One instruction; the rounding of to_bfloat16.
__device__ __forceinline__ uint32_t pack_pair(float low, float high) {
#ifdef BIRKHOFF_CUDA_EMULATED
  return uint32_t{to_bfloat16(low).bits} | uint32_t{to_bfloat16(high).bits} << 16;
#else
  return ptx::to_bf16_pair(low, high);
#endif
}

// Eight consecutive elements at a 16-byte boundary.
__device__ __forceinline__ void load8(const float* p, float (&v)[8]) {
  const float4 a = *reinterpret_cast<const float4*>(p), b = *reinterpret_cast<const float4*>(p + 4);
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
__device__ __forceinline__ void load8(const bfloat16* p, float (&v)[8]) {
  const uint4 a = *reinterpret_cast<const uint4*>(p);
  v[0] = low_half(a.x), v[1] = high_half(a.x), v[2] = low_half(a.y), v[3] = high_half(a.y);
  v[4] = low_half(a.z), v[5] = high_half(a.z), v[6] = low_half(a.w), v[7] = high_half(a.w);
}
// Floats or bfloat16 at a boundary of 4 or 8 elements, in instructions that the compiler cannot split.
__device__ __forceinline__ void store4(float* p, float x, float y, float z, float w) {
  ptx::store16(p, __float_as_uint(x), __float_as_uint(y), __float_as_uint(z), __float_as_uint(w));
}
__device__ __forceinline__ void store4(bfloat16* p, float x, float y, float z, float w) {
  ptx::store8(p, pack_pair(x, y), pack_pair(z, w));
}
__device__ __forceinline__ void store8(float* p, const float (&v)[8]) {
  store4(p, v[0], v[1], v[2], v[3]);
  store4(p + 4, v[4], v[5], v[6], v[7]);
}
__device__ __forceinline__ void store8(bfloat16* p, const float (&v)[8]) {
  ptx::store16(p, pack_pair(v[0], v[1]), pack_pair(v[2], v[3]), pack_pair(v[4], v[5]), pack_pair(v[6], v[7]));
}

// The same for any alignment, and for the first `count` of the eight; the others are zero, or not written.
template <bool Vector, class T>
__device__ __forceinline__ void load_some(const T* p, int64_t count, float (&v)[8]) {
  if constexpr (Vector) {
    load8(p, v);
  } else {
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = k < count ? to_float(p[k]) : 0.0f;
  }
}
template <bool Vector, class T>
__device__ __forceinline__ void store_some(T* p, int64_t count, const float (&v)[8]) {
  if constexpr (Vector) {
    store8(p, v);
  } else {
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (k < count) from_float(v[k], p[k]);
  }
}

// ---- ordered sums: always the same tree, so the same bits
// ---------------------------------------------------------------

template <class V>
__device__ __forceinline__ V sum_warp(V v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}
__device__ __forceinline__ float max_warp(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v = vmax(v, __shfl_xor_sync(0xffffffffu, v, offset));
  return v;
}

// Sum over a block of whole warps, in every thread; scratch: one value per warp, free again after the call.
template <class V>
__device__ __forceinline__ V sum_block(V v, V* scratch) {
  v = sum_warp(v);
  const unsigned warp = threadIdx.x / 32, warps = blockDim.x / 32;
  if (threadIdx.x % 32 == 0) scratch[warp] = v;
  __syncthreads();
  V total = scratch[0];
  for (unsigned w = 1; w < warps; ++w) total += scratch[w];
  __syncthreads();
  return total;
}
__device__ __forceinline__ float max_block(float v, float* scratch) {
  v = max_warp(v);
  const unsigned warp = threadIdx.x / 32, warps = blockDim.x / 32;
  if (threadIdx.x % 32 == 0) scratch[warp] = v;
  __syncthreads();
  float top = scratch[0];
  for (unsigned w = 1; w < warps; ++w) top = vmax(top, scratch[w]);
  __syncthreads();
  return top;
}

// ---- an index out of range, see index_errors.h; position below 2^31, the smallest wins in any order of threads ----

__device__ __forceinline__ void report_index(IndexErrors::Word* word, int64_t position, int32_t value) {
  atomicMin(word, static_cast<IndexErrors::Word>(position) << 32 | static_cast<uint32_t>(value));
}

}  // namespace birkhoff::cuda
