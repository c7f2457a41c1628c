// OpenBLAS, held to one thread: our own pool decides what runs in parallel (fixed tiles, so the same bits at any thread
// count).
#include "cpu/gemm.h"

#ifdef BIRKHOFF_OPENBLAS
#include <cblas.h>
#endif

#include <cstdlib>
#include <cstring>
#include <string>

namespace birkhoff::cpu {

#ifdef BIRKHOFF_OPENBLAS

namespace {
void hold_to_one_thread() {
  static const bool once = [] {
    openblas_set_num_threads(1);
    return true;
  }();
  (void)once;
}
}  // namespace

const char* gemm_library() {
  if (!openblas_available()) return "built-in";
  hold_to_one_thread();
  static const std::string* name = new std::string(openblas_get_config());
  return name->c_str();
}

bool openblas_available() {
  static const bool wanted = [] {
    const char* choice = std::getenv("BIRKHOFF_GEMM");
    return !choice || std::strcmp(choice, "builtin") != 0;
  }();
  return wanted;
}

void openblas_gemm(const GemmCall& g) {
  hold_to_one_thread();
  cblas_sgemm(CblasRowMajor, g.transpose_a ? CblasTrans : CblasNoTrans, g.transpose_b ? CblasTrans : CblasNoTrans,
              static_cast<blasint>(g.m), static_cast<blasint>(g.n), static_cast<blasint>(g.k), g.alpha, g.a,
              static_cast<blasint>(g.lda), g.b, static_cast<blasint>(g.ldb), g.beta, g.c, static_cast<blasint>(g.ldc));
}

#else

const char* gemm_library() {
  return "built-in";
}
bool openblas_available() {
  return false;
}
void openblas_gemm(const GemmCall&) {}

#endif

}  // namespace birkhoff::cpu
