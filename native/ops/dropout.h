// Dropout with a counted mask: y = x * keep / (1 - p). Backward is the same map of the gradient, with the mask drawn
// again.
//
//   x, y [size];  seeds [2 draws] int32 or absent: with it, seed is number `seed` of its 64-bit seeds (low half first),
//   which a recorded step reads anew at each launch
//   keep[i] = word i % 4 of Philox4x32-10(seed, i / 4) >= p * 2^32
#pragma once
#include "core/checks.h"
#include "core/host_device.h"

namespace birkhoff {

inline constexpr uint64_t kDropoutStream = 0x64726f70;  // "drop": apart from other draws of the same seed

struct DropoutArgs {
  static constexpr const char* kName = "dropout";
  View x, y;
  OptionalView seeds;
  double p;
  int64_t seed;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("y", y), field("seeds", seeds), field("p", p), field("seed", seed);
  }
  void check() const {
    require_float(kName, "x", x), require_dtype(kName, "y", y, x.dtype), require_size(kName, "y", y, {x.size});
    require_dtype(kName, "seeds", seeds, DType::kInt32);
    require_range(kName, "seed", seed, 0, seeds ? seeds.size / 2 - 1 : kMaxSize);
    if (!(p >= 0.0 && p <= 1.0)) throw Error(kRangeError, "dropout: p is not from 0 to 1");
  }
  // Where the seed is found on the device, or null.
  const uint32_t* device_seed() const { return seeds ? seeds.as<uint32_t>() + 2 * seed : nullptr; }
};

// The seed that a kernel uses.
MHC_HD uint64_t dropout_seed(const uint32_t* device_seed, uint64_t seed) {
  return device_seed ? device_seed[0] | uint64_t{device_seed[1]} << 32 : seed;
}

}  // namespace birkhoff
