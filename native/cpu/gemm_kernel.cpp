// The built-in matrix product, blocked like GotoBLAS: a panel of b is packed once per block of k, blocks of a stream
// past it, and a 6 x 2W tile of c stays in registers (12 accumulators; 16 registers are enough on every level).
#include "cpu/gemm_kernel.h"

#include "cpu/workspace.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int kTileRows = 6;
constexpr int kTileColumns = 2 * W;
// Packed block of a: 96 KB, of b: 256 KB; both fit a second-level cache.
constexpr int64_t kBlockM = 96, kBlockN = 256, kBlockK = 256;
static_assert(kBlockM % kTileRows == 0 && kBlockN % kTileColumns == 0);
static_assert(kBlockM * kBlockK + kBlockK * kBlockN == kGemmWorkspace);

// Packs `lines` rows (or columns) of length k into panels of `Width` lines, k-major; the last panel is filled up with
// zeros. Element (line, p) of the source is at line * line_step + p * k_step.
template <int Width>
BIRKHOFF_INLINE void pack(const float* source, int64_t lines, int64_t k, int64_t line_step, int64_t k_step,
                          float* out) {
  for (int64_t first = 0; first < lines; first += Width, out += Width * k) {
    const int64_t count = min64(Width, lines - first);
    const float* panel = source + first * line_step;
    if (count < Width)
      for (int64_t i = 0; i < Width * k; ++i) out[i] = 0.0f;
    if (line_step == 1 && count == Width) {
      for (int64_t p = 0; p < k; ++p) memcpy(out + p * Width, panel + p * k_step, sizeof(float) * Width);
    } else if (count == Width && k_step == 1) {
      for (int64_t p = 0; p < k; ++p)
        for (int line = 0; line < Width; ++line) out[p * Width + line] = panel[line * line_step + p];
    } else {
      for (int64_t line = 0; line < count; ++line)
        for (int64_t p = 0; p < k; ++p) out[p * Width + line] = panel[line * line_step + p * k_step];
    }
  }
}

// c = alpha * acc + beta * c for one tile; beta = 0 does not read c.
BIRKHOFF_INLINE void store_tile(const vf (&acc)[kTileRows][2], float* c, int64_t ldc, int64_t rows, int64_t columns,
                                float alpha, float beta) {
#pragma GCC unroll 6
  for (int r = 0; r < kTileRows; ++r) {
    if (r >= rows) return;
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      float* at = c + r * ldc + half * W;
      const int64_t count = columns - half * W;
      if (count <= 0) continue;
      vf value = acc[r][half] * alpha;
      if (count >= W) {
        if (beta != 0.0f) value = vfma(broadcast(beta), load(at), value);
        store(at, value);
      } else {
        if (beta != 0.0f) value = vfma(broadcast(beta), load_partial(at, count), value);
        store_partial(at, value, count);
      }
    }
  }
}

void multiply_tile(int64_t k, const float* a, const float* b, float* c, int64_t ldc, int64_t rows, int64_t columns,
                   float alpha, float beta) {
  vf acc[kTileRows][2] = {};
  for (int64_t p = 0; p < k; ++p, a += kTileRows, b += kTileColumns) {
    const vf b0 = load(b), b1 = load(b + W);
#pragma GCC unroll 6
    for (int r = 0; r < kTileRows; ++r) {
      const vf ar = broadcast(a[r]);
      acc[r][0] = vfma(ar, b0, acc[r][0]);
      acc[r][1] = vfma(ar, b1, acc[r][1]);
    }
  }
  store_tile(acc, c, ldc, rows, columns, alpha, beta);
}

void builtin_gemm(const GemmCall& g) {
  float* packed_a = gemm_workspace();
  float* packed_b = packed_a + kBlockM * kBlockK;
  const int64_t a_row = g.transpose_a ? 1 : g.lda, a_k = g.transpose_a ? g.lda : 1;
  const int64_t b_column = g.transpose_b ? g.ldb : 1, b_k = g.transpose_b ? 1 : g.ldb;
  for (int64_t j = 0; j < g.n; j += kBlockN) {
    const int64_t n = min64(kBlockN, g.n - j);
    for (int64_t p = 0; p < g.k; p += kBlockK) {
      const int64_t k = min64(kBlockK, g.k - p);
      const float beta = p == 0 ? g.beta : 1.0f;
      pack<kTileColumns>(g.b + j * b_column + p * b_k, n, k, b_column, b_k, packed_b);
      for (int64_t i = 0; i < g.m; i += kBlockM) {
        const int64_t m = min64(kBlockM, g.m - i);
        pack<kTileRows>(g.a + i * a_row + p * a_k, m, k, a_row, a_k, packed_a);
        for (int64_t jj = 0; jj < n; jj += kTileColumns)
          for (int64_t ii = 0; ii < m; ii += kTileRows)
            multiply_tile(k, packed_a + ii * k, packed_b + jj * k, g.c + (i + ii) * g.ldc + j + jj, g.ldc, m - ii,
                          n - jj, g.alpha, beta);
      }
    }
  }
}

}  // namespace

void gemm(const GemmCall& g) {
  if (g.m == 0 || g.n == 0) return;
  if (g.k == 0) {
    for (int64_t i = 0; i < g.m; ++i)
      for (int64_t j = 0; j < g.n; ++j) {
        float& c = g.c[i * g.ldc + j];
        c = g.beta == 0.0f ? 0.0f : g.beta * c;
      }
    return;
  }
  if (openblas_available())
    openblas_gemm(g);
  else
    builtin_gemm(g);
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
