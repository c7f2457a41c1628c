// Loops over contiguous elements, W at a time with a tail, for the plain kernels.
#pragma once
#include "cpu/simd.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

constexpr int64_t kElementsPerTask = 16384;  // a multiple of every W

// A whole vector, known at compile time; a tail passes its count instead.
struct Whole {
  constexpr operator int64_t() const { return W; }
};

template <class T>
BIRKHOFF_INLINE vf load_some(const T* p, Whole) {
  return load(p);
}
template <class T>
BIRKHOFF_INLINE vf load_some(const T* p, int64_t count) {
  return load_partial(p, count);
}
template <class T>
BIRKHOFF_INLINE void store_some(T* p, vf v, Whole) {
  store(p, v);
}
template <class T>
BIRKHOFF_INLINE void store_some(T* p, vf v, int64_t count) {
  store_partial(p, v, count);
}

// Zero in the lanes past the tail, for sums of things that are not zero where the input is.
BIRKHOFF_INLINE vf only_some(vf v, Whole) {
  return v;
}
BIRKHOFF_INLINE vf only_some(vf v, int64_t count) {
  float lanes[W] = {};
  float source[W];
  store(source, v);
  for (int64_t i = 0; i < count; ++i) lanes[i] = source[i];
  return load(lanes);
}

// body(i, count) for every vector in [begin, end); count is Whole, or what is left. Mark body's lambda always_inline.
template <class F>
BIRKHOFF_INLINE void for_vectors(int64_t begin, int64_t end, const F& body) {
  int64_t i = begin;
  for (; i + W <= end; i += W) body(i, Whole{});
  if (i < end) body(i, end - i);
}

// The same over [0, size), in parallel.
template <class F>
BIRKHOFF_INLINE void parallel_vectors(int64_t size, const F& body) {
  parallel(ceil_div(size, kElementsPerTask), [&](int64_t task) {
    for_vectors(task * kElementsPerTask, min64(size, (task + 1) * kElementsPerTask), body);
  });
}

// Sum of term(i, count) over [0, size): four running vectors, so that additions do not wait for each other.
template <class F>
BIRKHOFF_INLINE float sum_vectors(int64_t size, const F& term) {
  vf a{}, b{}, c{}, d{};
  int64_t i = 0;
  for (; i + 4 * W <= size; i += 4 * W) {
    a += term(i, Whole{});
    b += term(i + W, Whole{});
    c += term(i + 2 * W, Whole{});
    d += term(i + 3 * W, Whole{});
  }
  for (; i + W <= size; i += W) a += term(i, Whole{});
  if (i < size) b += term(i, size - i);
  return sum_lanes((a + b) + (c + d));
}

#define BIRKHOFF_VECTOR_BODY __attribute__((always_inline))

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
