// A stand-in for libcublas.so: what the addon calls of it, computed on the host, column-major as the real one. It works
// on the executor alone, whose device memory is the host's.
//
// -DMAJOR=11: another version; -DGEMM_STATUS=13, -DCREATE_STATUS=1: that call fails; -DWITHOUT_GEMM: lacks the symbol.
#include <cstdint>
#include <cstring>

#ifndef MAJOR
#define MAJOR 13
#endif
#ifndef GEMM_STATUS
#define GEMM_STATUS 0
#endif
#ifndef CREATE_STATUS
#define CREATE_STATUS 0
#endif

namespace {

constexpr int kReal32 = 0, kRealBFloat16 = 14;

float load(const void* data, int type, long long at) {
  float value;
  if (type == kReal32) {
    memcpy(&value, static_cast<const float*>(data) + at, 4);
  } else {
    const uint32_t bits = uint32_t{static_cast<const uint16_t*>(data)[at]} << 16;
    memcpy(&value, &bits, 4);
  }
  return value;
}

void store(void* data, int type, long long at, float value) {
  if (type == kReal32) {
    memcpy(static_cast<float*>(data) + at, &value, 4);
  } else {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    bits += 0x7fff + (bits >> 16 & 1);  // to nearest, ties to even; the tests have no NaN
    static_cast<uint16_t*>(data)[at] = static_cast<uint16_t>(bits >> 16);
  }
}

int handle;
bool workspace = false, deterministic = false, full_precision = false;

}  // namespace

extern "C" {

int cublasCreate_v2(void** made) {
  *made = &handle;
  return CREATE_STATUS;
}
int cublasDestroy_v2(void*) {
  return 0;
}
int cublasSetStream_v2(void*, void*) {
  return 0;
}
int cublasSetWorkspace_v2(void*, void* memory, size_t bytes) {
  workspace = memory && bytes >= size_t{4} << 20;
  return 0;
}
int cublasSetAtomicsMode(void*, int mode) {
  deterministic = mode == 0;
  return 0;
}
int cublasSetMathMode(void*, int mode) {
  full_precision = mode == 16;
  return 0;
}
int cublasGetProperty(int type, int* value) {
  *value = type == 0 ? MAJOR : 7;
  return 0;
}
const char* cublasGetStatusName(int status) {
  return status == 13 ? "CUBLAS_STATUS_EXECUTION_FAILED" : status == 1 ? "CUBLAS_STATUS_NOT_INITIALIZED" : "another";
}

#ifndef WITHOUT_GEMM
int cublasGemmStridedBatchedEx(void*, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a,
                               int a_type, int lda, long long a_stride, const void* b, int b_type, int ldb,
                               long long b_stride, const void* beta, void* c, int c_type, int ldc, long long c_stride,
                               int batch, int compute_type, int) {
  if (GEMM_STATUS) return GEMM_STATUS;
  if (!workspace || !deterministic || !full_precision || compute_type != 68) return 7;  // CUBLAS_STATUS_INVALID_VALUE
  if (lda < (op_a ? k : m) || ldb < (op_b ? n : k) || ldc < m) return 7;
  for (int i = 0; i < batch; ++i)
    for (int column = 0; column < n; ++column)
      for (int row = 0; row < m; ++row) {
        float sum = 0;
        for (int s = 0; s < k; ++s) {
          const long long at_a = op_a ? s + static_cast<long long>(row) * lda : row + static_cast<long long>(s) * lda;
          const long long at_b =
              op_b ? column + static_cast<long long>(s) * ldb : s + static_cast<long long>(column) * ldb;
          sum += load(a, a_type, i * a_stride + at_a) * load(b, b_type, i * b_stride + at_b);
        }
        sum *= *static_cast<const float*>(alpha);
        const long long at = i * c_stride + row + static_cast<long long>(column) * ldc;
        const float factor = *static_cast<const float*>(beta);
        store(c, c_type, at, factor == 0 ? sum : sum + factor * load(c, c_type, at));
      }
  return 0;
}
#endif

}  // extern "C"
