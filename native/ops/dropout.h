// Dropout with a counted mask: y = x * keep / (1 - p). Backward is the same map of the gradient, with the mask drawn
// again.
//
//   x, y [size];  keep[i] = word i % 4 of Philox4x32-10(seed, i / 4) >= p * 2^32
#pragma once
#include "core/checks.h"

namespace birkhoff {

inline constexpr uint64_t kDropoutStream = 0x64726f70;  // "drop": apart from other draws of the same seed

struct DropoutArgs {
  static constexpr const char* kName = "dropout";
  View x, y;
  double p;
  int64_t seed;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("y", y), field("p", p), field("seed", seed);
  }
  void check() const {
    require_float(kName, "x", x), require_dtype(kName, "y", y, x.dtype), require_size(kName, "y", y, {x.size});
    require_range(kName, "seed", seed, 0, kMaxSize);
    if (!(p >= 0.0 && p <= 1.0)) throw Error(kRangeError, "dropout: p is not from 0 to 1");
  }
};

}  // namespace birkhoff
