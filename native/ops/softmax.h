// Softmax over the last axis.
//
//   x, y [rows, columns];  y = exp(x - max x) / sum exp(x - max x);   dx = y * (dy - sum(dy * y))
#pragma once
#include "core/checks.h"

namespace birkhoff {

struct SoftmaxForwardArgs {
  static constexpr const char* kName = "softmax";
  View x, y;
  int64_t rows, columns;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("y", y), field("rows", rows), field("columns", columns);
  }
  void check() const {
    require_float(kName, "x", x), require_dtype(kName, "y", y, x.dtype);
    require_size(kName, "x", x, {rows, columns}), require_size(kName, "y", y, {rows, columns});
  }
};

struct SoftmaxBackwardArgs {
  static constexpr const char* kName = "softmax backward";
  View y, grad_y, grad_x;
  int64_t rows, columns;

  template <class F>
  void fields(F&& field) {
    field("y", y), field("gradY", grad_y), field("gradX", grad_x), field("rows", rows), field("columns", columns);
  }
  void check() const {
    require_float(kName, "y", y);
    for (const View* view : {&y, &grad_y, &grad_x}) {
      require_dtype(kName, "tensor", *view, y.dtype);
      require_size(kName, "tensor", *view, {rows, columns});
    }
  }
};

}  // namespace birkhoff
