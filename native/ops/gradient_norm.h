// The pieces of clipping gradients by their global norm; the norm never leaves the device.
//
//   sumSquares:  out = (accumulate ? out : 0) + sum of x^2        out [1] float32; the sum itself is in double
//   squareRoot:  out = sqrt(x)                                    x, out [1] float32
//   clipScale:   x *= min(1, maxNorm / (sqrt(sumSquares) + 1e-6)), in place; not touched when the factor is 1 or
//                sumSquares is not finite
#pragma once
#include "core/checks.h"

namespace birkhoff {

struct SumSquaresArgs {
  static constexpr const char* kName = "sumSquares";
  static constexpr int64_t kPerTask = 1 << 15;
  View x, out;
  int64_t accumulate;
  void* scratch = nullptr;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("out", out), field("accumulate", accumulate);
  }
  void check() const {
    require_float(kName, "x", x), require_dtype(kName, "out", out, DType::kFloat32),
        require_size(kName, "out", out, {1});
  }
  int64_t tasks() const { return (x.size + kPerTask - 1) / kPerTask; }
  int64_t scratch_bytes() const { return 8 * tasks(); }
  int64_t cuda_scratch_bytes() const { return scratch_bytes(); }
};

struct SquareRootArgs {
  static constexpr const char* kName = "squareRoot";
  View x, out;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("out", out);
  }
  void check() const {
    for (const View* view : {&x, &out}) {
      require_dtype(kName, "tensor", *view, DType::kFloat32);
      require_size(kName, "tensor", *view, {1});
    }
  }
};

struct ClipScaleArgs {
  static constexpr const char* kName = "clipScale";
  View x, sum_squares;
  double max_norm;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("sumSquares", sum_squares), field("maxNorm", max_norm);
  }
  void check() const {
    require_float(kName, "x", x), require_dtype(kName, "sumSquares", sum_squares, DType::kFloat32);
    require_size(kName, "sumSquares", sum_squares, {1});
  }
};

}  // namespace birkhoff
