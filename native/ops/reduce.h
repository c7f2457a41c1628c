// Sums over one axis, and their gradient.
//
//   reduce_axis:     x [outer, count, inner] -> out [outer, inner]:  out_oi = (sum_k x_oki * factor_oki) / divisor
//                    factor (optional) has x's shape: the gradient of a broadcast multiplication needs the products'
//                    sum
//   broadcast_axis:  x [outer, inner] -> out [outer, count, inner]:  out_oki = x_oi / divisor
//
// Order of summation: the axis is cut at fixed places (reduce_chunk), each piece is summed in order, then the pieces
// are.
#pragma once
#include "core/checks.h"
#include "core/host_device.h"

namespace birkhoff {

// Elements of the axis in one piece: a function of the sizes alone.
MHC_HD int64_t reduce_chunk(int64_t count, int64_t inner) {
  const int64_t smallest = inner == 1 ? 16384 : 64;
  const int64_t chunk = inner == 1 ? smallest : (count + 31) / 32;
  return chunk < smallest ? smallest : chunk;
}
MHC_HD int64_t reduce_pieces(int64_t count, int64_t inner) {
  const int64_t chunk = reduce_chunk(count, inner);
  return (count + chunk - 1) / chunk;
}

struct ReduceAxisArgs {
  static constexpr const char* kName = "sum";
  View x;
  OptionalView factor;
  View out;
  int64_t outer, count, inner;
  double divisor;
  void* scratch;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("factor", factor), field("out", out);
    field("outer", outer), field("count", count), field("inner", inner), field("divisor", divisor);
  }
  void check() const {
    require_float(kName, "x", x);
    require_dtype(kName, "out", out, x.dtype), require_dtype(kName, "factor", factor, x.dtype);
    require_size(kName, "x", x, {outer, count, inner}), require_size(kName, "out", out, {outer, inner});
    require_optional_size(kName, "factor", factor, {outer, count, inner});
  }
  int64_t scratch_bytes() const { return checked_product({outer, reduce_pieces(count, inner), inner, 4}); }
  int64_t cuda_scratch_bytes() const { return scratch_bytes(); }
};

struct BroadcastAxisArgs {
  static constexpr const char* kName = "sum backward";
  View x, out;
  int64_t outer, count, inner;
  double divisor;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("out", out);
    field("outer", outer), field("count", count), field("inner", inner), field("divisor", divisor);
  }
  void check() const {
    require_float(kName, "x", x), require_dtype(kName, "out", out, x.dtype);
    require_size(kName, "x", x, {outer, inner}), require_size(kName, "out", out, {outer, count, inner});
  }
};

}  // namespace birkhoff
