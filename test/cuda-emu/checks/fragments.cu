// mma.sync and ldmatrix against fragments filled by hand, element by element, as the PTX ISA lays them out.
#include <cmath>
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

// How a hand-made sum is added: to the nearest float32 step by step, or aligned and cut off.
float nearest(const float (&a)[kK], const float (&b)[kK], float c) {
  for (int k = 0; k < kK; ++k) c = c + a[k] * b[k];
  return c;
}
float truncated(const float (&a)[kK], const float (&b)[kK], float c) {
  double terms[kK + 1], sum = 0;
  int top = -2000;
  for (int k = 0; k <= kK; ++k) {
    terms[k] = k < kK ? double{a[k]} * double{b[k]} : double{c};
    if (terms[k] != 0 && std::ilogb(terms[k]) > top) top = std::ilogb(terms[k]);
  }
  for (const double term : terms) sum += std::ldexp(std::trunc(std::ldexp(term, 25 - top)), top - 25);
  // Truncated to 24 bits.
  if (sum == 0) return 0;
  const int exponent = std::ilogb(sum);
  return static_cast<float>(std::ldexp(std::trunc(std::ldexp(sum, 23 - exponent)), exponent - 23));
}

// One sum: a[0..], all else 0. In every element of the result, whatever its row and column.
void check_sum(const char* name, std::vector<float> products, float c, float expected) {
  products.resize(kK);
  std::vector<uint32_t> fragment_a, fragment_b;
  for (int lane = 0; lane < 32; ++lane) {
    const int q = lane % 4;
    for (int r = 0; r < 4; ++r)
      fragment_a.push_back(pair(products[2 * q + 8 * (r / 2)], products[2 * q + 8 * (r / 2) + 1]));
    for (int r = 0; r < 2; ++r) fragment_b.push_back(pair(1, 1));
  }
  const Buffer<uint32_t> device_a(fragment_a), device_b(fragment_b);
  const Buffer<float> device_c(std::vector<float>(128, c)), d(128);
  launch(multiply, 1, 32, 0, nullptr, d.data, device_a.data, device_b.data, device_c.data);
  expect(name, d.values() == std::vector<float>(128, expected));
}

// What A100 and H100 were seen to do, by hand.
void check_truncation() {
  const auto two = [](int exponent) { return std::ldexp(1.0f, exponent); };
  check_sum("truncate: a product is cut off below two bits under float32's last", {two(-26)}, 1, 1);
  check_sum("truncate: two bits are kept and add up", {two(-25), two(-25), two(-25), two(-25)}, 1, 1 + two(-23));
  check_sum("truncate: what is cut off is lost, however often it comes", std::vector<float>(16, two(-26)), 1, 1);
  check_sum("truncate: the sum is cut off too, not rounded", {two(-24), two(-25)}, 1, 1);
  check_sum("truncate: towards zero, also below it", {-two(-24), -two(-25)}, -1, -1);
  check_sum("truncate: a small part of the other sign", {-two(-26)}, 1, 1);
  check_sum("truncate: aligned to the largest of all, also of the products", {two(24), -two(24), two(-2)}, 0, 0);
  check_sum("truncate: nothing to cut off", {3, 5, -2}, 0.5, 6.5);
  check_sum("truncate: infinity and what is finite", {two(20), -two(20)}, INFINITY, INFINITY);
  check_sum("truncate: the smallest float32", {}, two(-149), two(-149));
}

void check_mma(const char* name, float (*add)(const float (&)[kK], const float (&)[kK], float)) {
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
      float column[kK];
      for (int k = 0; k < kK; ++k) column[k] = b[k][columns[r]];
      fragment_c.push_back(c[rows[r]][columns[r]]);
      expected.push_back(add(a[rows[r]], column, fragment_c.back()));
    }
  }
  const Buffer<uint32_t> device_a(fragment_a), device_b(fragment_b);
  const Buffer<float> device_c(fragment_c), d(expected.size());
  launch(multiply, 1, 32, 0, nullptr, d.data, device_a.data, device_b.data, device_c.data);
  const std::vector<float> values = d.values();
  expect(name, memcmp(values.data(), expected.data(), values.size() * sizeof(float)) == 0);
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
  cuda_emu_truncate_mma(0);
  check_mma("mma.m16n8k16, nearest: every element, bit for bit, in ascending order of k", nearest);
  cuda_emu_truncate_mma(1);
  check_mma("mma.m16n8k16, truncate: every element, bit for bit", truncated);
  check_truncation();
  check_load(false);
  check_load(true);
  expect("no reports", cudaDeviceSynchronize() == cudaSuccess);
}
