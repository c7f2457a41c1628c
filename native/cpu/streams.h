// What the hyper-connection kernels share: compile-time stream counts, and the weighted sum of streams.
#pragma once
#include "cpu/simd.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

template <int N>
struct StreamCount {
  constexpr int operator()() const { return N; }
};

// Calls body with StreamCount<n>, n = 1, 2, 4 or 8 (checked at the binding).
template <class F>
BIRKHOFF_INLINE void with_streams(int64_t n, const F& body) {
  if (n == 1) body(StreamCount<1>{});
  if (n == 2) body(StreamCount<2>{});
  if (n == 4) body(StreamCount<4>{});
  if (n == 8) body(StreamCount<8>{});
}

// out_c = sum_i weights[i * stride] x_ic for columns [begin, end) of n rows of C.
template <int n, class T>
BIRKHOFF_INLINE void mix(const T* x, int64_t C, const float* weights, int stride, int64_t begin, int64_t end, T* out) {
  vf weight[n];
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) weight[i] = broadcast(weights[i * stride]);
  for (int64_t c = begin; c < end; c += W) {
    const int64_t count = min64(W, C - c);
    vf sum;
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
      const vf value = count == W ? load(x + i * C + c) : load_partial(x + i * C + c, count);
      sum = i == 0 ? weight[0] * value : vfma(weight[i], value, sum);
    }
    if (count == W)
      store(out + c, sum);
    else
      store_partial(out + c, sum, count);
  }
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
