// Dropout on CUDA; see ops/dropout.h. The mask is drawn from the position, so it is the CPU's and backward needs no
// copy of it.
#include "core/philox.h"
#include "cuda/math.h"
#include "ops/dropout.h"

namespace birkhoff::cuda {
namespace {

constexpr int kDropoutThreads = 256;

template <bool Vector, class T>
__global__ void __launch_bounds__(kDropoutThreads)
    dropout_kernel(const T* x, T* y, int64_t size, const uint32_t* device_seed, uint64_t given_seed, uint32_t lowest,
                   bool any, float scale) {
  const uint64_t seed = dropout_seed(device_seed, given_seed);
  const int64_t step = int64_t{8} * kDropoutThreads * gridDim.x;
  for (int64_t i = (int64_t{blockIdx.x} * kDropoutThreads + threadIdx.x) * 8; i < size; i += step) {
    float v[8];
    load_some<Vector>(x + i, size - i, v);
#pragma unroll
    for (int k = 0; k < 8; k += 4) {
      const PhiloxWords words = philox4x32(seed, static_cast<uint64_t>((i + k) / 4), kDropoutStream);
#pragma unroll
      for (int w = 0; w < 4; ++w) v[k + w] = any && words.w[w] >= lowest ? v[k + w] * scale : 0.0f;
    }
    store_some<Vector>(y + i, size - i, v);
  }
}

}  // namespace

void dropout(const DropoutArgs& args) {
  if (args.x.size == 0) return;
  const uint64_t threshold = static_cast<uint64_t>(args.p * 4294967296.0 + 0.5);
  // p = 1 wants a threshold of 2^32, which no 32-bit word reaches: nothing is kept.
  const bool any = threshold >> 32 == 0;
  const float scale = static_cast<float>(1.0 / (1.0 - args.p));
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.x.size % 8 == 0 && aligned16(args.x, args.y), [&](auto vector) {
      launch(dropout_kernel<vector(), T>, grid_for(args.x.size, 8 * kDropoutThreads), kDropoutThreads, 0,
             args.x.as<T>(), args.y.as<T>(), args.x.size, args.device_seed(), static_cast<uint64_t>(args.seed),
             static_cast<uint32_t>(threshold), any, scale);
    });
  });
}

}  // namespace birkhoff::cuda
