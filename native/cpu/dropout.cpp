// Dropout on CPU: W counters at a time, so that the compiler can put one Philox state in each lane.
#include "core/philox.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

void dropout(const DropoutArgs& args) {
  constexpr int64_t kPerTask = 1 << 14;  // a multiple of 4 * W
  const int64_t size = args.x.size;
  const uint64_t threshold = static_cast<uint64_t>(args.p * 4294967296.0 + 0.5);
  const float scale = static_cast<float>(1.0 / (1.0 - args.p));
  const uint64_t seed = dropout_seed(args.device_seed(), static_cast<uint64_t>(args.seed));
  // p = 1 wants a threshold of 2^32, which no 32-bit word reaches: nothing is kept.
  const uint32_t lowest = static_cast<uint32_t>(threshold), any = threshold >> 32 ? 0u : ~0u;
  with_float_type(args.x.dtype, [&](auto* type) {
    parallel(ceil_div(size, kPerTask), [&](int64_t task) {
      const int64_t start = task * kPerTask, end = min64(size, start + kPerTask);
      const auto* x = static_cast<decltype(type)>(args.x.data);
      auto* y = static_cast<decltype(type)>(args.y.data);
      for (int64_t i = start; i < end; i += 4 * W) {
        alignas(64) uint32_t words[4 * W];
        for (int block = 0; block < W; ++block) {
          const PhiloxWords drawn =
              philox4x32(seed, static_cast<uint64_t>(i / 4 + block), kDropoutStream);
          for (int w = 0; w < 4; ++w) words[4 * block + w] = drawn.w[w];
        }
        for_vectors(min64(4 * W, end - i), [&](int64_t at, int64_t count) {
          vu draw;
          memcpy(&draw, words + at, sizeof draw);
          const vf kept = vselect((vi)(draw >= lowest) & (int32_t)any, load_upto(x + i + at, count) * scale, vf{});
          store_upto(y + i + at, kept, count);
        });
      }
    });
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
