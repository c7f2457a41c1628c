// Vectors of the instruction set that this file is compiled for. Every CPU kernel is written once over `vf` and
// compiled into namespaces portable, avx2 and avx512 (x86) or neon (arm64); backend.cpp picks one at run time. Nothing
// here or in a kernel may instantiate a standard-library template out of line: the linker would keep one copy for all
// instruction sets (a test checks the objects for weak symbols).
#pragma once
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/dtype.h"
#include "cpu/thread_pool.h"

#define BIRKHOFF_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#define BIRKHOFF_ISA avx512
#elif defined(__AVX2__)
#define BIRKHOFF_ISA avx2
#elif defined(__aarch64__)
#define BIRKHOFF_ISA neon
#else
#define BIRKHOFF_ISA portable
#endif

// Where ops/*.h put their per-token maths.
#define BIRKHOFF_MATH birkhoff::cpu::BIRKHOFF_ISA

namespace birkhoff::cpu::BIRKHOFF_ISA {

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef uint32_t vu __attribute__((vector_size(4 * W)));
typedef uint16_t vh __attribute__((vector_size(2 * W)));

// v - 0, since that is exact for every v and so costs nothing (v + 0 would turn -0 into 0, and stay an instruction).
template <class V>
inline __attribute__((always_inline)) V vbroadcast(float v) {
  return v - V{};
}
BIRKHOFF_INLINE vf broadcast(float v) {
  return vbroadcast<vf>(v);
}

BIRKHOFF_INLINE vf load(const float* p) {
  vf v;
  memcpy(&v, p, sizeof v);
  return v;
}
BIRKHOFF_INLINE vf load(const bfloat16* p) {
  vh h;
  memcpy(&h, p, sizeof h);
  return (vf)(__builtin_convertvector(h, vu) << 16);
}
BIRKHOFF_INLINE void store(float* p, vf v) {
  memcpy(p, &v, sizeof v);
}
BIRKHOFF_INLINE void store(bfloat16* p, vf v) {
  const vu u = (vu)v;
  const vu rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const vu nan = vu{} + uint32_t{kBFloat16NaN};
  const vh h = __builtin_convertvector((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded, vh);
  memcpy(p, &h, sizeof h);
}

// The first `count` < W lanes; the others are zero, or not written.
template <class T>
BIRKHOFF_INLINE vf load_partial(const T* p, int64_t count) {
  T lanes[W] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = p[i];
  return load(lanes);
}
template <class T>
BIRKHOFF_INLINE void store_partial(T* p, vf v, int64_t count) {
  T lanes[W];
  store(lanes, v);
  for (int64_t i = 0; i < count; ++i) p[i] = lanes[i];
}

// Past the caches: for outputs too large to stay in them, saves reading the line before writing it. p must be aligned.
BIRKHOFF_INLINE void store_stream(float* p, vf v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, (__m256)v);
#elif defined(__SSE2__)
  _mm_stream_ps(p, (__m128)v);
#else
  memcpy(p, &v, sizeof v);
#endif
}
BIRKHOFF_INLINE void store_stream(bfloat16* p, vf v) {
  bfloat16 lanes[W];
  store(lanes, v);
#if defined(__AVX512F__)
  __m256i h;
  memcpy(&h, lanes, sizeof h);
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), h);
#elif defined(__AVX2__)
  __m128i h;
  memcpy(&h, lanes, sizeof h);
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), h);
#else
  memcpy(p, lanes, sizeof lanes);
#endif
}

BIRKHOFF_INLINE vf vfma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}
BIRKHOFF_INLINE float vfma(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
BIRKHOFF_INLINE vf vsqrt(vf v) {
#if defined(__AVX512F__)
  return (vf)_mm512_mask_sqrt_ps((__m512)v, 0xffff, (__m512)v);
#elif defined(__AVX2__)
  return (vf)_mm256_sqrt_ps((__m256)v);
#elif defined(__aarch64__)
  return (vf)vsqrtq_f32((float32x4_t)v);
#elif defined(__SSE2__)
  return (vf)_mm_sqrt_ps((__m128)v);
#else
  vf root;
  for (int i = 0; i < W; ++i) root[i] = __builtin_sqrtf(v[i]);
  return root;
#endif
}
template <class V>
inline __attribute__((always_inline)) V vreciprocal(V v) {
  return 1.0f / v;
}
// a > b ? a : b, so b where one is NaN. One instruction; the compiler makes two of the comparison. (GCC 12 warns about
// the unmasked 512-bit forms.)
BIRKHOFF_INLINE vf vmax(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_mask_max_ps((__m512)a, 0xffff, (__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vf)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
  return (vf)_mm_max_ps((__m128)a, (__m128)b);
#else
  return a > b ? a : b;
#endif
}
BIRKHOFF_INLINE vf vmin(vf a, vf b) {
#if defined(__AVX512F__)
  return (vf)_mm512_mask_min_ps((__m512)a, 0xffff, (__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (vf)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
  return (vf)_mm_min_ps((__m128)a, (__m128)b);
#else
  return a < b ? a : b;
#endif
}
BIRKHOFF_INLINE vf vselect(vi mask, vf a, vf b) {
  return mask ? a : b;
}

BIRKHOFF_INLINE bool vany(vi mask) {
  int32_t lanes[W], any = 0;
  memcpy(lanes, &mask, sizeof mask);
  for (int i = 0; i < W; ++i) any |= lanes[i];
  return any != 0;
}

// Ordered: always the same tree, so the same bits.
BIRKHOFF_INLINE float sum_lanes(vf v) {
  float lanes[W];
  memcpy(lanes, &v, sizeof v);
  for (int half = W / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}
BIRKHOFF_INLINE float max_lanes(vf v) {
  float lanes[W];
  memcpy(lanes, &v, sizeof v);
  float top = lanes[0];
  for (int i = 1; i < W; ++i) top = lanes[i] > top ? lanes[i] : top;
  return top;
}

// exp within 1.5 ulp (Cody-Waite reduction, degree 6); 0 below -87.3, infinity above 88.7, NaN stays NaN.
BIRKHOFF_INLINE vf vexp(vf x) {
  const vf clamped = vmin(vmax(x, broadcast(-87.336544f)), broadcast(88.722839f));
  const vf magic = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const vf shifted = vfma(clamped, broadcast(1.44269504f), magic);
  const vf n = shifted - magic;
  vf r = vfma(n, broadcast(-0.693359375f), clamped);
  r = vfma(n, broadcast(2.12194440e-4f), r);
  vf p = broadcast(1.9875691500e-4f);
  p = vfma(p, r, broadcast(1.3981999507e-3f));
  p = vfma(p, r, broadcast(8.3334519073e-3f));
  p = vfma(p, r, broadcast(4.1665795894e-2f));
  p = vfma(p, r, broadcast(1.6666665459e-1f));
  p = vfma(p, r, broadcast(5.0000001201e-1f));
  p = vfma(p, r * r, r) + 1.0f;
  // 2^n in two factors, since n = 128 has no exponent of its own.
  const vi k = (vi)shifted - 0x4b400000;
  const vi half = k >> 1;
  p = p * (vf)((half + 127) << 23) * (vf)((k - half + 127) << 23);
  p = vselect(x < broadcast(-87.336544f), vf{}, p);
  p = vselect(x > broadcast(88.722839f), broadcast(__builtin_inff()), p);
  return vselect(x != x, x, p);
}
// exp(x + rest) for x <= 0 and |rest| below 1e-3, in fewer steps: one factor 2^n is enough. 0 below -87.3.
BIRKHOFF_INLINE vf vexp_negative(vf x, vf rest) {
  const vf clamped = vmax(x, broadcast(-87.336544f));
  const vf magic = broadcast(12582912.0f);
  const vf shifted = vfma(clamped, broadcast(1.44269504f), magic);
  const vf n = shifted - magic;
  vf r = vfma(n, broadcast(-0.693359375f), clamped);
  r = vfma(n, broadcast(2.12194440e-4f), r);
  vf p = broadcast(1.9875691500e-4f);
  p = vfma(p, r, broadcast(1.3981999507e-3f));
  p = vfma(p, r, broadcast(8.3334519073e-3f));
  p = vfma(p, r, broadcast(4.1665795894e-2f));
  p = vfma(p, r, broadcast(1.6666665459e-1f));
  p = vfma(p, r, broadcast(5.0000001201e-1f));
  p = vfma(p, r * r, r) + 1.0f;
  p = (vf)((vi)p + ((vi)shifted << 23));
  p = vfma(p, rest, p);
  p = vselect(x < broadcast(-87.336544f), vf{}, p);
  return vselect(x != x, x, p);
}
// log of a normal x > 0 within 2 ulp, or 1e-7 near 1 (Cephes' logf: mantissa in [sqrt(1/2), sqrt(2)), degree 8).
BIRKHOFF_INLINE vf vlog(vf x) {
  const vi shifted = (vi)x - 0x3f3504f3;
  const vf n = __builtin_convertvector(shifted >> 23, vf);
  const vf f = (vf)((shifted & 0x007fffff) + 0x3f3504f3) - 1.0f;
  vf p = broadcast(7.0376836292e-2f);
  p = vfma(p, f, broadcast(-1.1514610310e-1f));
  p = vfma(p, f, broadcast(1.1676998740e-1f));
  p = vfma(p, f, broadcast(-1.2420140846e-1f));
  p = vfma(p, f, broadcast(1.4249322787e-1f));
  p = vfma(p, f, broadcast(-1.6668057665e-1f));
  p = vfma(p, f, broadcast(2.0000714765e-1f));
  p = vfma(p, f, broadcast(-2.4999993993e-1f));
  p = vfma(p, f, broadcast(3.3333331174e-1f));
  const vf square = f * f;
  const vf rest = vfma(n, broadcast(-2.12194440e-4f), p * f * square) - 0.5f * square;
  return vfma(n, broadcast(0.693359375f), f + rest);
}
BIRKHOFF_INLINE float vexp(float x) {
  return vexp(broadcast(x))[0];
}
BIRKHOFF_INLINE vf vsigmoid(vf x) {
  return 1.0f / (1.0f + vexp(-x));
}
BIRKHOFF_INLINE vf vtanh(vf x) {
  return 1.0f - 2.0f / (vexp(2.0f * x) + 1.0f);
}

// parallel_for over a lambda, by reference.
template <class F>
BIRKHOFF_INLINE void parallel(int64_t count, const F& body) {
  parallel_for(
      count, [](void* context, int64_t index) { (*static_cast<const F*>(context))(index); },
      const_cast<void*>(static_cast<const void*>(&body)));
}

BIRKHOFF_INLINE int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
BIRKHOFF_INLINE int64_t min64(int64_t a, int64_t b) {
  return a < b ? a : b;
}
BIRKHOFF_INLINE int64_t max64(int64_t a, int64_t b) {
  return a > b ? a : b;
}

// Calls body with a typed null pointer for the view's element type: float or bfloat16.
template <class F>
BIRKHOFF_INLINE void with_float_type(DType dtype, const F& body) {
  if (dtype == DType::kBFloat16)
    body(static_cast<bfloat16*>(nullptr));
  else
    body(static_cast<float*>(nullptr));
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
