// Single-precision matrix products: OpenBLAS where the build found it, a built-in kernel otherwise.
#pragma once
#include <cstdint>

namespace birkhoff::cpu {

// c [m, n] = alpha * op(a) op(b) + beta * c, row-major, leading dimensions given; on the calling thread alone.
// The result depends on the arguments only, never on the number of threads.
struct GemmCall {
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  float alpha;
  const float* a;
  int64_t lda;
  const float* b;
  int64_t ldb;
  float beta;
  float* c;
  int64_t ldc;
};

const char* gemm_library();
// False where the build did not find it, or BIRKHOFF_GEMM=builtin asks for the built-in kernel (tests cover both).
bool openblas_available();
void openblas_gemm(const GemmCall& call);

}  // namespace birkhoff::cpu
