#include "cuda/gemm.h"

#include "cuda/backend.h"
#include "cuda/cublas.h"

namespace birkhoff::cuda {

void open_gemm(Context& context) {
  context.blas = open_cublas(context);
}

void close_gemm(Context& context) noexcept {
  if (context.blas) close_cublas(context, context.blas);
  context.blas = nullptr;
}

std::string gemm_name() {
  return cublas_name();
}

void builtin_gemm(const Gemm& problem) {
  if (problem.a_type == DType::kBFloat16 && problem.b_type == DType::kBFloat16)
    bfloat16_gemm(problem);
  else
    float32_gemm(problem);
}

void gemm(const Gemm& problem) {
  if (problem.m == 0 || problem.n == 0 || problem.batch == 0) return;
  Context& context = current();
  if (context.blas && problem.k > 0 && cublas_takes(problem))
    cublas_gemm(context, problem);
  else
    builtin_gemm(problem);
}

}  // namespace birkhoff::cuda
