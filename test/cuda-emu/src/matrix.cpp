// mma.sync and ldmatrix: which lane holds which element is the PTX ISA's fragment layout.
#include <bit>
#include <cmath>
#include <cstring>

#include "report.h"
#include "warp.h"

namespace cuda_emu {
namespace {

struct Mma {
  float* d;
  const uint32_t *a, *b;
  const float* c;
};

float from_bf16(uint32_t bits) {
  const uint32_t wide = bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}
float from_f16(uint32_t bits) {
  __half_raw raw;
  raw.x = static_cast<unsigned short>(bits);
  return __half2float(__half(raw));
}

// c += a b, k ascending, each step rounded to the nearest float32.
void add_nearest(const float (&a)[16], const float (&b)[16][8], float (&c)[8]) {
  for (int k = 0; k < 16; ++k)
    for (int j = 0; j < 8; ++j) c[j] += a[k] * b[k][j];
}

float towards_zero(double value) {
  float near = static_cast<float>(value);
  if (std::isfinite(near) && std::fabs(static_cast<double>(near)) > std::fabs(value)) near = std::nextafter(near, 0.0f);
  return near;
}

// c += a b as A100 and H100 add (Fasi et al. 2021, PeerJ cs-330; Khattak & Mikaitis, arXiv:2512.07004): products and c
// are aligned to the largest exponent among them, two bits more than float32's 24 are kept and the rest is cut off; so
// is what the sum has too much for float32.
// Half of what products take on the executor is spent here, hence the clones.
__attribute__((target_clones("avx512f", "avx2", "default"))) void add_truncated(const float (&a)[16],
                                                                                const float (&b)[16][8],
                                                                                float (&c)[8]) {
  constexpr int kKept = 25;              // bits below the largest one
  constexpr uint64_t kExponents = 2047;  // of a double, whose products of these floats are exact and normal
  double terms[17][8];
  uint64_t top[8] = {};
  for (int k = 0; k < 17; ++k)
    for (int j = 0; j < 8; ++j) {
      terms[k][j] = k < 16 ? static_cast<double>(a[k]) * static_cast<double>(b[k][j]) : static_cast<double>(c[j]);
      const uint64_t exponent = std::bit_cast<uint64_t>(terms[k][j]) >> 52 & kExponents;
      top[j] = exponent > top[j] ? exponent : top[j];
    }
  for (int j = 0; j < 8; ++j)
    if (top[j] == kExponents) return add_nearest(a, b, c);  // infinite or NaN, whatever the order
  double scale[8], sums[8];
  int sum[8] = {};  // 17 terms below 2^26
  for (int j = 0; j < 8; ++j)
    scale[j] = top[j] == 0 ? 1.0 : std::bit_cast<double>((1023 + kKept + 1023 - top[j]) << 52);  // 0: all are zeros
  for (int k = 0; k < 17; ++k)
    for (int j = 0; j < 8; ++j) sum[j] += static_cast<int>(terms[k][j] * scale[j]);
  for (int j = 0; j < 8; ++j) sums[j] = sum[j] / scale[j];
  for (int j = 0; j < 8; ++j) c[j] = towards_zero(sums[j]);
}

void need_whole_warp(const char* name, unsigned participants) {
  if (participants != ~0u)
    fail_kind(kDivergence, cudaErrorLaunchFailure, "%s with lanes 0x%08x only", name, participants);
}

// Lane l has g = l / 4, q = l % 4. a: rows g and g + 8, columns 2q, 2q + 1 and the same + 8. b: rows 2q, 2q + 1 and the
// same + 8, column g. c and d: rows g and g + 8, columns 2q, 2q + 1.
template <float (*widen)(uint32_t)>
void run_mma(void** payload, unsigned participants) {
  need_whole_warp("mma.sync", participants);
  float a[16][16], b[16][8], c[16][8];
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    const Mma& mma = *static_cast<Mma*>(payload[lane]);
    const unsigned g = lane / 4, q = lane % 4;
    for (unsigned half = 0; half < 2; ++half) {
      for (unsigned r = 0; r < 4; ++r)
        a[g + 8 * (r & 1)][2 * q + half + 8 * (r >> 1)] = widen(mma.a[r] >> (16 * half) & 0xffff);
      for (unsigned r = 0; r < 2; ++r) b[2 * q + half + 8 * r][g] = widen(mma.b[r] >> (16 * half) & 0xffff);
    }
    for (unsigned r = 0; r < 4; ++r) c[g + 8 * (r >> 1)][2 * q + (r & 1)] = mma.c[r];
  }
  for (int i = 0; i < 16; ++i)
    if (config.truncate)
      add_truncated(a[i], b, c[i]);
    else
      add_nearest(a[i], b, c[i]);
  for (unsigned lane = 0; lane < kWarp; ++lane)
    for (unsigned r = 0; r < 4; ++r)
      static_cast<Mma*>(payload[lane])->d[r] = c[lane / 4 + 8 * (r >> 1)][2 * (lane % 4) + (r & 1)];
}

struct LoadMatrix {
  uint32_t* out;
  const uint32_t* row;
  int matrices;
  bool transposed;
};

// Lane 8 m + r brings row r of matrix m. Lane l receives of each matrix the pair at row l / 4, columns 2 (l % 4) and
// + 1; transposed, the pair at rows 2 (l % 4) and + 1, column l / 4.
void run_load_matrix(void** payload, unsigned participants) {
  need_whole_warp("ldmatrix", participants);
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    const LoadMatrix& load = *static_cast<LoadMatrix*>(payload[lane]);
    const unsigned g = lane / 4, q = lane % 4;
    for (int m = 0; m < load.matrices; ++m) {
      const auto element = [&](unsigned row, unsigned column) -> uint32_t {
        const LoadMatrix& source = *static_cast<LoadMatrix*>(payload[m * 8 + static_cast<int>(row)]);
        return source.row[column / 2] >> (column % 2 * 16) & 0xffff;
      };
      load.out[m] = load.transposed ? element(2 * q, g) | element(2 * q + 1, g) << 16
                                    : element(g, 2 * q) | element(g, 2 * q + 1) << 16;
    }
  }
}

}  // namespace

void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, const float* c, Site site) {
  static constexpr WarpOperation operation{"mma.sync.m16n8k16.bf16", run_mma<from_bf16>, false};
  Mma payload{d, a, b, c};
  collective(operation, ~0u, &payload, site);
}

void mma_m16n8k16_f16(float* d, const uint32_t* a, const uint32_t* b, const float* c, Site site) {
  static constexpr WarpOperation operation{"mma.sync.m16n8k16.f16", run_mma<from_f16>, false};
  Mma payload{d, a, b, c};
  collective(operation, ~0u, &payload, site);
}

void ldmatrix(uint32_t* out, const uint32_t row[4], int matrices, bool transposed, Site site) {
  static constexpr WarpOperation operation{"ldmatrix", run_load_matrix, false};
  LoadMatrix payload{out, row, matrices, transposed};
  collective(operation, ~0u, &payload, site);
}

}  // namespace cuda_emu
