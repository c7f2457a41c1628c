// Compile-time stream counts for the hyper-connection kernels.
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

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
