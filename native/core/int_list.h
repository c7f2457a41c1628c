// A short list of integers as an op's argument: extents, strides.
#pragma once
#include <cstdint>

namespace birkhoff {

inline constexpr int kMaxAxes = 8;

struct IntList {
  int64_t size = 0;
  int64_t values[kMaxAxes] = {};
};

}  // namespace birkhoff
