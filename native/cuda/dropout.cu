// Dropout on CUDA; see ops/dropout.h. One counter per thread and pass: four elements. The mask is the CPU's.
#include "core/philox.h"
#include "cuda/math.h"
#include "ops/dropout.h"

namespace birkhoff::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads)
    dropout_kernel(const T* x, T* y, int64_t size, uint64_t seed, uint64_t threshold, float scale) {
  const int64_t step = int64_t{kThreads} * gridDim.x;
  for (int64_t block = int64_t{blockIdx.x} * kThreads + threadIdx.x; 4 * block < size; block += step) {
    const PhiloxWords words = philox4x32(seed, static_cast<uint64_t>(block), kDropoutStream);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int64_t i = 4 * block + k;
      if (i < size) from_float(words.w[k] >= threshold ? to_float(x[i]) * scale : 0.0f, y[i]);
    }
  }
}

}  // namespace

void dropout(const DropoutArgs& args) {
  if (args.x.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(dropout_kernel<T>, grid_for(ceil_div(args.x.size, 4), kThreads), kThreads, 0, args.x.as<T>(), args.y.as<T>(),
           args.x.size, static_cast<uint64_t>(args.seed), static_cast<uint64_t>(args.p * 4294967296.0 + 0.5),
           static_cast<float>(1.0 / (1.0 - args.p)));
  });
}

}  // namespace birkhoff::cuda
