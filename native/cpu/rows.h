// Loops over one row of contiguous elements, tails included.
#pragma once
#include "cpu/simd.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

// Calls body(i, count) for vectors of up to W elements; count is W but for the last.
template <class Body>
BIRKHOFF_INLINE void for_vectors(int64_t size, const Body& body) {
  int64_t i = 0;
  for (; i + W <= size; i += W) body(i, int64_t{W});
  if (i < size) body(i, size - i);
}

template <class T>
BIRKHOFF_INLINE vf load_upto(const T* p, int64_t count) {
  return count == W ? load(p) : load_partial(p, count);
}
template <class T>
BIRKHOFF_INLINE void store_upto(T* p, vf v, int64_t count) {
  if (count == W)
    store(p, v);
  else
    store_partial(p, v, count);
}

template <class From, class To>
BIRKHOFF_INLINE void convert(const From* from, To* to, int64_t size) {
  for_vectors(size, [&](int64_t i, int64_t count) { store_upto(to + i, load_upto(from + i, count), count); });
}

// sum[i] += x[i]
template <class T>
BIRKHOFF_INLINE void add_to(float* sum, const T* x, int64_t size) {
  for_vectors(size, [&](int64_t i, int64_t count) {
    store_upto(sum + i, load_upto(sum + i, count) + load_upto(x + i, count), count);
  });
}

// x[i] *= factor
BIRKHOFF_INLINE void scale_by(float* x, float factor, int64_t size) {
  for_vectors(size, [&](int64_t i, int64_t count) { store_upto(x + i, load_upto(x + i, count) * factor, count); });
}

// The largest element; -infinity for none. A NaN among others may be passed over.
template <class T>
BIRKHOFF_INLINE float row_max(const T* x, int64_t size) {
  vf top = broadcast(-__builtin_inff());
  int64_t i = 0;
  for (; i + W <= size; i += W) top = vmax(top, load(x + i));
  float result = max_lanes(top);
  for (; i < size; ++i) result = to_float(x[i]) > result ? to_float(x[i]) : result;
  return result;
}

// sum of exp(x[i] - shift), lanes first, then across; a fixed order.
template <class T>
BIRKHOFF_INLINE float row_sum_exp(const T* x, float shift, int64_t size) {
  vf sum{};
  int64_t i = 0;
  for (; i + W <= size; i += W) sum = sum + vexp(load(x + i) - shift);
  float result = sum_lanes(sum);
  for (; i < size; ++i) result += vexp(to_float(x[i]) - shift);
  return result;
}

template <class A, class B>
BIRKHOFF_INLINE float row_dot(const A* a, const B* b, int64_t size) {
  vf sum{};
  for_vectors(size,
              [&](int64_t i, int64_t count) { sum = vfma(load_upto(a + i, count), load_upto(b + i, count), sum); });
  return sum_lanes(sum);
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
