// mma.sync and ldmatrix against fragments filled by hand, element by element, as the PTX ISA lays them out.
#include <cstdio>
#include <cstring>

#include "checks.h"

namespace {

constexpr int kM = 16, kN = 8, kK = 16;

__global__ void multiply(float* d, const uint32_t* a, const uint32_t* b, const float* c) {
  const int lane = threadIdx.x;
  uint32_t own_a[4], own_b[2];
  float own_c[4], own_d[4];
  for (int r = 0; r < 4; ++r) own_a[r] = a[4 * lane + r];
  for (int r = 0; r < 2; ++r) own_b[r] = b[2 * lane + r];
  for (int r = 0; r < 4; ++r) own_c[r] = c[4 * lane + r];
  cuda_emu::mma_m16n8k16_bf16(own_d, own_a, own_b, own_c, {__FILE__, __LINE__});
  for (int r = 0; r < 4; ++r) d[4 * lane + r] = own_d[r];
}

// Four 8 x 8 matrices one below the other; lane 8 m + r has the address of row r of matrix m.
__global__ void load(uint32_t* out, const uint32_t* in, bool transposed) {
  CUDA_EMU_SHARED_ALIGNED(16, uint4, rows, [32]);
  const int lane = threadIdx.x;
  rows[lane] = reinterpret_cast<const uint4*>(in)[lane];
  __syncwarp();
  const uint4 row = rows[lane];
  const uint32_t words[4] = {row.x, row.y, row.z, row.w};
  uint32_t result[4];
  cuda_emu::ldmatrix(result, words, 4, transposed, {__FILE__, __LINE__});
  for (int r = 0; r < 4; ++r) out[4 * lane + r] = result[r];
}

uint16_t bits(float value) {
  uint32_t wide;
  memcpy(&wide, &value, sizeof wide);
  return static_cast<uint16_t>(wide >> 16);
}
uint32_t pair(float low, float high) {
  return bits(low) | static_cast<uint32_t>(bits(high)) << 16;
}

// Exact in bfloat16; their products' sums are rounded, so that the result tells the order of the sum.
float sample(uint32_t& state) {
  state = state * 1664525u + 1013904223u;
  const float magnitude = 1.0f + static_cast<float>(state >> 24 & 127) / 128.0f;
  const int exponent = static_cast<int>(state >> 16 & 15) - 8;
  return (state >> 31 ? -magnitude : magnitude) * (exponent < 0 ? 1.0f / (1 << -exponent) : 1 << exponent);
}

void check_mma() {
  float a[kM][kK], b[kK][kN], c[kM][kN];
  uint32_t state = 7;
  for (auto& row : a)
    for (float& x : row) x = sample(state);
  for (auto& row : b)
    for (float& x : row) x = sample(state);
  for (auto& row : c)
    for (float& x : row) x = sample(state);
  std::vector<uint32_t> fragment_a, fragment_b;
  std::vector<float> fragment_c, expected;
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, q = lane % 4;
    fragment_a.push_back(pair(a[g][2 * q], a[g][2 * q + 1]));
    fragment_a.push_back(pair(a[g + 8][2 * q], a[g + 8][2 * q + 1]));
    fragment_a.push_back(pair(a[g][2 * q + 8], a[g][2 * q + 9]));
    fragment_a.push_back(pair(a[g + 8][2 * q + 8], a[g + 8][2 * q + 9]));
    fragment_b.push_back(pair(b[2 * q][g], b[2 * q + 1][g]));
    fragment_b.push_back(pair(b[2 * q + 8][g], b[2 * q + 9][g]));
    const int rows[] = {g, g, g + 8, g + 8}, columns[] = {2 * q, 2 * q + 1, 2 * q, 2 * q + 1};
    for (int r = 0; r < 4; ++r) {
      float sum = c[rows[r]][columns[r]];
      fragment_c.push_back(sum);
      for (int k = 0; k < kK; ++k) {
        const float product = a[rows[r]][k] * b[k][columns[r]];
        sum = sum + product;
      }
      expected.push_back(sum);
    }
  }
  const Buffer<uint32_t> device_a(fragment_a), device_b(fragment_b);
  const Buffer<float> device_c(fragment_c), d(expected.size());
  launch(multiply, 1, 32, 0, nullptr, d.data, device_a.data, device_b.data, device_c.data);
  const std::vector<float> values = d.values();
  expect("mma.m16n8k16: every element, bit for bit, in ascending order of k",
         memcmp(values.data(), expected.data(), values.size() * sizeof(float)) == 0);
}

void check_load(bool transposed) {
  const auto element = [](int matrix, int row, int column) -> uint32_t { return 1000 * matrix + 10 * row + column; };
  std::vector<uint32_t> rows, expected;
  for (int m = 0; m < 4; ++m)
    for (int r = 0; r < 8; ++r)
      for (int c = 0; c < 8; c += 2) rows.push_back(element(m, r, c) | element(m, r, c + 1) << 16);
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, q = lane % 4;
    for (int m = 0; m < 4; ++m)
      expected.push_back(transposed ? element(m, 2 * q, g) | element(m, 2 * q + 1, g) << 16
                                    : element(m, g, 2 * q) | element(m, g, 2 * q + 1) << 16);
  }
  const Buffer<uint32_t> in(rows), out(expected.size());
  launch(load, 1, 32, 0, nullptr, out.data, static_cast<const uint32_t*>(in.data), transposed);
  expect(transposed ? "ldmatrix.x4.trans: every element" : "ldmatrix.x4: every element", out.values() == expected);
}

}  // namespace

void run_fragments() {
  check_mma();
  check_load(false);
  check_load(true);
  expect("no reports", cudaDeviceSynchronize() == cudaSuccess);
}
