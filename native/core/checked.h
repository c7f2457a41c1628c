// Sizes are int64 bounded by 2^53, so that they survive JavaScript and never wrap.
#pragma once
#include <cstdint>
#include <initializer_list>

#include "core/error.h"

namespace birkhoff {

inline constexpr int64_t kMaxSize = int64_t{1} << 53;

inline int64_t checked_product(std::initializer_list<int64_t> factors) {
  int64_t product = 1;
  for (const int64_t factor : factors) {
    if (factor < 0 || __builtin_mul_overflow(product, factor, &product) || product > kMaxSize)
      throw Error(kRangeError, "size overflow: a product of extents is negative or above 2^53");
  }
  return product;
}

}  // namespace birkhoff
