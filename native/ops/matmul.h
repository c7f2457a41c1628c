// Batched matrix product, and the column sum that is the gradient of its bias.
//
//   c[b] = op(a[b]) op(b[b]) + bias          op(x) = x, or x transposed
//   op(a) [m, k], op(b) [k, n], c [m, n], bias [n]; b [1 or batch, ...]
//   columnSum:  out[j] = sum over i of x[i, j]
//
// Sums are float32 whatever the storage; each output is rounded once.
#pragma once
#include "core/checks.h"

namespace birkhoff {

inline constexpr int64_t kMaxMatrixExtent = (int64_t{1} << 31) - 1;  // what BLAS libraries take

struct MatmulArgs {
  static constexpr const char* kName = "matmul";
  View a, b;
  OptionalView bias;
  View c;
  int64_t batch, shared_b, m, n, k, transpose_a, transpose_b;
  void* scratch = nullptr;

  template <class F>
  void fields(F&& field) {
    field("a", a), field("b", b), field("bias", bias), field("c", c), field("batch", batch), field("sharedB", shared_b);
    field("m", m), field("n", n), field("k", k), field("transposeA", transpose_a), field("transposeB", transpose_b);
  }
  void check() const {
    require_range(kName, "m", m, 0, kMaxMatrixExtent), require_range(kName, "n", n, 0, kMaxMatrixExtent);
    require_range(kName, "k", k, 0, kMaxMatrixExtent);
    require_float(kName, "a", a), require_float(kName, "b", b), require_float(kName, "bias", bias);
    require_float(kName, "c", c);
    require_size(kName, "a", a, {batch, m, k}), require_size(kName, "b", b, {shared_b ? 1 : batch, k, n});
    require_size(kName, "c", c, {batch, m, n}), require_optional_size(kName, "bias", bias, {n});
  }
  // bfloat16 operands, widened.
  int64_t scratch_bytes() const {
    return 4 * ((a.dtype == DType::kBFloat16 ? a.size : 0) + (b.dtype == DType::kBFloat16 ? b.size : 0));
  }
};

struct ColumnSumArgs {
  static constexpr const char* kName = "columnSum";
  View x, out;
  int64_t rows, columns;
  void* scratch = nullptr;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("out", out), field("rows", rows), field("columns", columns);
  }
  void check() const {
    require_float(kName, "x", x), require_float(kName, "out", out);
    require_size(kName, "x", x, {rows, columns}), require_size(kName, "out", out, {columns});
  }
  // The cut depends on the size alone: at least 64 rows each, at most 64 partial sums.
  int64_t parts() const { return rows < 64 ? 1 : rows >= 64 * 64 ? 64 : rows / 64; }
  int64_t scratch_bytes() const { return 4 * parts() * columns; }
  int64_t cuda_scratch_bytes() const { return scratch_bytes(); }
};

}  // namespace birkhoff
