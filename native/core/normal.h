// Normal deviates from random words by Box-Muller. The logarithm and the sine are written out in plain double
// operations: a libm picks variants by processor, and their last bits differ. Compile without contraction of a * b + c.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/host_device.h"

namespace birkhoff {

// log u for a normal, positive u: u = m 2^e with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m - 1) / (m + 1)).
MHC_HD double log_of_normal(double u) {
  uint64_t bits;
  memcpy(&bits, &u, 8);
  int exponent = static_cast<int>(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffffull) | 0x3ff0000000000000ull;
  double m;
  memcpy(&m, &bits, 8);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double f = (m - 1.0) / (m + 1.0), s = f * f;
  double p = 1.0 / 23.0;
  p = p * s + 1.0 / 21.0;
  p = p * s + 1.0 / 19.0;
  p = p * s + 1.0 / 17.0;
  p = p * s + 1.0 / 15.0;
  p = p * s + 1.0 / 13.0;
  p = p * s + 1.0 / 11.0;
  p = p * s + 1.0 / 9.0;
  p = p * s + 1.0 / 7.0;
  p = p * s + 1.0 / 5.0;
  p = p * s + 1.0 / 3.0;
  p = p * s + 1.0;
  return 2.0 * f * p + exponent * 0.6931471805599453;
}

// cos and sin of 2 pi v, v in [0, 1): a quarter turn is taken off exactly, then Taylor on [-pi/4, pi/4].
MHC_HD void cos_sin_turn(double v, double& cosine, double& sine) {
  const int quarter = static_cast<int>(4.0 * v + 0.5);
  const double r = (v - 0.25 * quarter) * 6.283185307179586, s = r * r;
  double c = 1.0 / 20922789888000.0;
  c = c * s - 1.0 / 87178291200.0;
  c = c * s + 1.0 / 479001600.0;
  c = c * s - 1.0 / 3628800.0;
  c = c * s + 1.0 / 40320.0;
  c = c * s - 1.0 / 720.0;
  c = c * s + 1.0 / 24.0;
  c = c * s - 0.5;
  c = c * s + 1.0;
  double n = 1.0 / 355687428096000.0;
  n = n * s - 1.0 / 1307674368000.0;
  n = n * s + 1.0 / 6227020800.0;
  n = n * s - 1.0 / 39916800.0;
  n = n * s + 1.0 / 362880.0;
  n = n * s - 1.0 / 5040.0;
  n = n * s + 1.0 / 120.0;
  n = n * s - 1.0 / 6.0;
  n = n * s * r + r;
  const bool swap = quarter & 1, negate_cosine = (quarter + 1) & 2, negate_sine = quarter & 2;
  cosine = swap ? n : c;
  sine = swap ? c : n;
  if (negate_cosine) cosine = -cosine;
  if (negate_sine) sine = -sine;
}

// Two independent N(0, 1) from two words.
MHC_HD void normal_pair(uint32_t a, uint32_t b, double& first, double& second) {
  const double radius = sqrt(-2.0 * log_of_normal((a + 1.0) * 0x1p-32));
  double cosine, sine;
  cos_sin_turn(b * 0x1p-32, cosine, sine);
  first = radius * cosine;
  second = radius * sine;
}

}  // namespace birkhoff
