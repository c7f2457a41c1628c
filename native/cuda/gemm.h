// Matrix products on the GPU: cuBLAS where it is found at run time (cublas.cpp), else kernels of our own.
#pragma once
#include <cstdint>

#include "core/view.h"
#include "cuda/context.h"

namespace birkhoff::cuda {

void open_gemm(Context& context);  // finds cuBLAS once per process and makes its handle; without it, nothing
void close_gemm(Context& context) noexcept;

// c = scale * op(a) op(b) + bias for `batch` matrices, row-major and dense inside a matrix; bias [n] is added to every
// row. float32 sums, each result rounded once; products of float32 are exact to float32. With our own kernels a row of
// c has the same bits whatever m and batch are.
struct Gemm {
  const void *a, *b;
  void* c;
  DType a_type, b_type, c_type;
  int64_t m, n, k;  // op(a) [m, k], op(b) [k, n], c [m, n]
  bool transpose_a = false, transpose_b = false;
  int64_t batch = 1;
  int64_t a_stride = 0, b_stride = 0, c_stride = 0;  // elements from one matrix to the next
  float scale = 1.0f;
  bool accumulate = false;  // c += instead of c =
  const void* bias = nullptr;
  DType bias_type = DType::kFloat32;
};
void gemm(const Gemm& problem);

// Our own: tensor cores for bfloat16 operands, float32 multiply-adds for others. Any extents, also k = 0.
void builtin_gemm(const Gemm& problem);
void bfloat16_gemm(const Gemm& problem);  // gemm_bfloat16.cu
void float32_gemm(const Gemm& problem);   // gemm_float32.cu

}  // namespace birkhoff::cuda
