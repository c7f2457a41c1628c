// RMSNorm and LayerNorm over rows of C channels, and their gradients.
//
//   x, y [rows, C];  weight, bias [C] float32 or x's dtype, optional;  inverse, mean [rows] float32, kept for backward
//   RMS:    r = (mean(x^2) + eps)^(-1/2),                     xhat = x r,        y = xhat weight
//   Layer:  r = (mean((x - mean)^2) + eps)^(-1/2),            xhat = (x - m) r,  y = xhat weight + bias
//   backward, h = dy weight:   dx = r (h - mean(h)[Layer only] - xhat mean(h xhat)),  dweight = sum dy xhat,  dbias =
//   sum dy
//
// The sums over rows are cut into pieces of fixed size, each summed in order, then the pieces in a fixed order: at most
// 32 pieces on CPU, on CUDA as many as cuda_pieces says, by the sizes alone.
#pragma once
#include "core/checks.h"
#include "core/host_device.h"

namespace birkhoff {

MHC_HD int64_t norm_rows_per_piece(int64_t rows, int64_t most_pieces = 32) {
  return (rows + most_pieces - 1) / most_pieces;
}

inline void require_norm_parameter(const char* op, const char* argument, const View& view, const View& x,
                                   int64_t channels) {
  if (!view) return;
  if (view.dtype != DType::kFloat32) require_dtype(op, argument, view, x.dtype);
  require_float(op, argument, view);
  require_size(op, argument, view, {channels});
}

// mean is absent for RMSNorm: that is what tells the two apart.
struct NormForwardArgs {
  View x;
  OptionalView weight, bias;
  View y;
  OptionalView mean;
  View inverse;
  int64_t rows, channels;
  double eps;
  void* scratch;

  void check_norm(const char* op) const {
    require_float(op, "x", x), require_dtype(op, "y", y, x.dtype);
    require_size(op, "x", x, {rows, channels}), require_size(op, "y", y, {rows, channels});
    require_norm_parameter(op, "weight", weight, x, channels), require_norm_parameter(op, "bias", bias, x, channels);
    require_dtype(op, "mean", mean, DType::kFloat32), require_optional_size(op, "mean", mean, {rows});
    require_dtype(op, "inverse", inverse, DType::kFloat32), require_size(op, "inverse", inverse, {rows});
  }
  // weight and bias as float32
  int64_t scratch_bytes() const { return checked_product({2, channels, 4}); }
};

struct NormBackwardArgs {
  View x;
  OptionalView weight;
  View grad_y;
  OptionalView mean;
  View inverse;
  OptionalView grad_x, grad_weight, grad_bias;
  int64_t rows, channels;
  void* scratch;

  void check_norm(const char* op) const {
    require_float(op, "x", x), require_dtype(op, "gradY", grad_y, x.dtype), require_dtype(op, "gradX", grad_x, x.dtype);
    require_size(op, "x", x, {rows, channels}), require_size(op, "gradY", grad_y, {rows, channels});
    require_optional_size(op, "gradX", grad_x, {rows, channels});
    require_norm_parameter(op, "weight", weight, x, channels);
    require_norm_parameter(op, "gradWeight", grad_weight, x, channels);
    require_norm_parameter(op, "gradBias", grad_bias, x, channels);
    require_dtype(op, "mean", mean, DType::kFloat32), require_optional_size(op, "mean", mean, {rows});
    require_dtype(op, "inverse", inverse, DType::kFloat32), require_size(op, "inverse", inverse, {rows});
  }
  // weight as float32, then [pieces, 2, channels] partial sums
  int64_t scratch_bytes() const { return checked_product({2 * 32 + 1, channels, 4}); }
  // On CUDA the partial sums only. A piece is one block's: narrow rows need more of them to fill the device.
  int64_t cuda_rows_per_piece() const { return norm_rows_per_piece(rows, channels <= 1024 ? 1024 : 256); }
  int64_t cuda_pieces() const { return rows ? (rows - 1) / cuda_rows_per_piece() + 1 : 0; }
  int64_t cuda_scratch_bytes() const {
    return grad_weight || grad_bias ? checked_product({2, cuda_pieces(), channels, 4}) : 0;
  }
};

struct RmsNormForwardArgs : NormForwardArgs {
  static constexpr const char* kName = "rmsNorm";
  template <class F>
  void fields(F&& field) {
    field("x", x), field("weight", weight), field("y", y), field("inverse", inverse);
    field("rows", rows), field("channels", channels), field("eps", eps);
  }
  void check() const { check_norm(kName); }
};

struct RmsNormBackwardArgs : NormBackwardArgs {
  static constexpr const char* kName = "rmsNorm backward";
  template <class F>
  void fields(F&& field) {
    field("x", x), field("weight", weight), field("gradY", grad_y), field("inverse", inverse), field("gradX", grad_x);
    field("gradWeight", grad_weight), field("rows", rows), field("channels", channels);
  }
  void check() const { check_norm(kName); }
};

struct LayerNormForwardArgs : NormForwardArgs {
  static constexpr const char* kName = "layerNorm";
  View row_mean;
  template <class F>
  void fields(F&& field) {
    field("x", x), field("weight", weight), field("bias", bias), field("y", y), field("mean", row_mean);
    field("inverse", inverse), field("rows", rows), field("channels", channels), field("eps", eps);
    static_cast<View&>(mean) = row_mean;
  }
  void check() const { check_norm(kName); }
};

struct LayerNormBackwardArgs : NormBackwardArgs {
  static constexpr const char* kName = "layerNorm backward";
  View row_mean;
  template <class F>
  void fields(F&& field) {
    field("x", x), field("weight", weight), field("gradY", grad_y), field("mean", row_mean), field("inverse", inverse);
    field("gradX", grad_x), field("gradWeight", grad_weight), field("gradBias", grad_bias), field("rows", rows);
    field("channels", channels);
    static_cast<View&>(mean) = row_mean;
  }
  void check() const { check_norm(kName); }
};

}  // namespace birkhoff
