// Where values come from: constants, random numbers, other element types. All tensors flat.
//
//   fill:   out_i = value
//   randn:  out_i = mean + std * z_i, z_i ~ N(0, 1); words 4k .. 4k+3 are Philox4x32-10(seed, k), a pair of words is a
//   pair of z cast:   out_i = x_i in out's dtype; to bfloat16 rounded to nearest even, to int32 truncated, clamped to
//   its range, NaN is 0
#pragma once
#include "core/checks.h"
#include "core/host_device.h"

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

MHC_HD int32_t truncate_to_int32(float v) {
  if (v != v) return 0;
  if (v >= 2147483648.0f) return 2147483647;
  return v < -2147483648.0f ? -2147483647 - 1 : static_cast<int32_t>(v);
}

// Rounded once: what float32 cannot hold is folded into a sticky bit below the last place of bfloat16.
MHC_HD bfloat16 int32_to_bfloat16(int32_t v) {
  uint32_t size = v < 0 ? 0u - static_cast<uint32_t>(v) : static_cast<uint32_t>(v);
  if (size >> 24) size = (size & ~0xffu) | ((size & 0xffu) ? 0x100u : 0u);
  const float exact = static_cast<float>(size);
  return to_bfloat16(v < 0 ? -exact : exact);
}

}  // namespace birkhoff
