// Matrix products on the GPU: cuBLAS where it is found at run time, else our own.
#pragma once
#include <cstdint>

#include "core/view.h"
#include "cuda/context.h"

namespace birkhoff::cuda {

void open_gemm(Context& context);  // finds cuBLAS once per process and makes its handle; without it, nothing
void close_gemm(Context& context) noexcept;

// c = op(a) op(b) for `batch` matrices, row-major and dense inside a matrix; float32 sums, each result rounded once.
struct Gemm {
  const void *a, *b;
  void* c;
  DType a_type, b_type, c_type;
  int64_t m, n, k;  // op(a) [m, k], op(b) [k, n], c [m, n]
  bool transpose_a, transpose_b;
  int64_t batch = 1;
  int64_t a_stride = 0, b_stride = 0, c_stride = 0;  // elements from one matrix to the next
  float scale = 1.0f;                                // c = scale * op(a) op(b)
  bool accumulate = false;                           // c += instead of c =
};
void gemm(const Gemm& problem);

}  // namespace birkhoff::cuda
