// AdamW on CUDA: one pass over the four arrays; see ops/adamw.h. The arithmetic is the CPU's, operation by operation,
// and so are the bits where the CPU has fused multiply-adds.
#include "cuda/math.h"
#include "ops/adamw.h"

namespace birkhoff::cuda {
namespace {

constexpr int kAdamwThreads = 256;

struct Constants {
  float beta1, rest1, beta2, rest2, eps;
};

template <bool Vector, class G>
__global__ void __launch_bounds__(kAdamwThreads) adamw_kernel(float* param, const G* grad, float* m, float* v,
                                                              int64_t size, const float* factors, const Constants s) {
  const float rate = factors[0], root_scale = factors[1], decay = factors[2];
  const int64_t step = int64_t{8} * kAdamwThreads * gridDim.x;
  for (int64_t i = (int64_t{blockIdx.x} * kAdamwThreads + threadIdx.x) * 8; i < size; i += step) {
    const int64_t count = size - i;
    float p[8], g[8], first[8], second[8];
    load_some<Vector>(grad + i, count, g);
    load_some<Vector>(m + i, count, first);
    load_some<Vector>(v + i, count, second);
    load_some<Vector>(param + i, count, p);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      first[k] = vfma(s.beta1, first[k], s.rest1 * g[k]);
      second[k] = vfma(s.beta2, second[k], s.rest2 * (g[k] * g[k]));
      const float update = first[k] / (vsqrt(second[k]) * root_scale + s.eps);
      p[k] = p[k] * decay - update * rate;
    }
    store_some<Vector>(m + i, count, first);
    store_some<Vector>(v + i, count, second);
    store_some<Vector>(param + i, count, p);
  }
}

}  // namespace

void adamw(const AdamWArgs& args) {
  const int64_t size = args.param.size;
  if (size == 0) return;
  const Constants s = {.beta1 = static_cast<float>(args.beta1),
                       .rest1 = static_cast<float>(1.0 - args.beta1),
                       .beta2 = static_cast<float>(args.beta2),
                       .rest2 = static_cast<float>(1.0 - args.beta2),
                       .eps = static_cast<float>(args.eps)};
  with_float_type(args.grad.dtype, [&](auto* type) {
    using G = std::remove_pointer_t<decltype(type)>;
    with_bool(size % 8 == 0 && aligned16(args.param, args.grad, args.m, args.v), [&](auto vector) {
      launch(adamw_kernel<vector(), G>, grid_for(size, 8 * kAdamwThreads), kAdamwThreads, 0, args.param.f32(),
             args.grad.as<G>(), args.m.f32(), args.v.f32(), size, args.slot_factors(), s);
    });
  });
}

}  // namespace birkhoff::cuda
