// Where values come from: constants, random numbers, other element types. All tensors flat.
//
//   fill:   out_i = value
//   randn:  out_i = mean + std * z_i, z_i ~ N(0, 1); words 4k .. 4k+3 are Philox4x32-10(seed, k), a pair of words is a
//   pair of z cast:   out_i = x_i in out's dtype; to bfloat16 rounded to nearest even, to int32 truncated, clamped to
//   its range, NaN is 0
#pragma once
#include "core/checks.h"

namespace birkhoff {

struct FillArgs {
  static constexpr const char* kName = "fill";
  View out;
  double value;

  template <class F>
  void fields(F&& field) {
    field("out", out), field("value", value);
  }
  void check() const {
    if (out.dtype == DType::kInt32 && !(value >= -2147483648.0 && value <= 2147483647.0))
      throw Error(kRangeError, "fill: value does not fit int32");
  }
};

struct RandnArgs {
  static constexpr const char* kName = "randn";
  View out;
  int64_t seed;
  double mean, std;

  template <class F>
  void fields(F&& field) {
    field("out", out), field("seed", seed), field("mean", mean), field("std", std);
  }
  void check() const { require_float(kName, "out", out); }
};

struct CastArgs {
  static constexpr const char* kName = "cast";
  View x, out;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("out", out);
  }
  void check() const { require_size(kName, "out", out, {x.size}); }
};

}  // namespace birkhoff
