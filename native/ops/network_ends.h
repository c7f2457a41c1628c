// The ends of a network of streams, and each other's backward.
//   expand:    x [T, n, C]: x_ic = scale * h_c          h [T, C]
//   contract:  h [T, C]:    h_c  = scale * sum_i x_ic
#pragma once
#include "core/checks.h"

namespace birkhoff {

struct NetworkEndArgs {
  static constexpr const char* kName = "expand or contract";
  View h, x;
  int64_t tokens, n, channels;
  double scale;

  template <class F>
  void fields(F&& field) {
    field("h", h), field("x", x), field("tokens", tokens), field("n", n), field("channels", channels),
        field("scale", scale);
  }
  void check() const {
    require_range(kName, "n", n, 1, kMaxSize);
    require_float(kName, "x", x), require_dtype(kName, "h", h, x.dtype);
    require_size(kName, "x", x, {tokens, n, channels}), require_size(kName, "h", h, {tokens, channels});
  }
};

}  // namespace birkhoff
