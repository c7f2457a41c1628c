// AdamW on CUDA; see ops/adamw.h. One pass over the four arrays, with the CPU's arithmetic and bits.
#include <cmath>

#include "cuda/math.h"
#include "ops/adamw.h"

namespace birkhoff::cuda {
namespace {

constexpr int kThreads = 256;

struct AdamWFactors {
  float rate, root_scale, decay, beta1, rest1, beta2, rest2, eps;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(int64_t size, const AdamWFactors f, const T* grad, float* param, float* m, float* v) {
  const int64_t step = int64_t{kThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += step) {
    const float g = to_float(grad[i]);
    const float first = vfma(f.beta1, m[i], f.rest1 * g);
    const float second = vfma(f.beta2, v[i], f.rest2 * (g * g));
    const float update = first / (vsqrt(second) * f.root_scale + f.eps);
    m[i] = first;
    v[i] = second;
    param[i] = param[i] * f.decay - update * f.rate;
  }
}

}  // namespace

void adamw(const AdamWArgs& args) {
  if (args.param.size == 0) return;
  const double step = static_cast<double>(args.step);
  const AdamWFactors factors{.rate = static_cast<float>(args.lr / (1.0 - std::pow(args.beta1, step))),
                             .root_scale = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(args.beta2, step))),
                             .decay = static_cast<float>(1.0 - args.lr * args.weight_decay),
                             .beta1 = static_cast<float>(args.beta1),
                             .rest1 = static_cast<float>(1.0 - args.beta1),
                             .beta2 = static_cast<float>(args.beta2),
                             .rest2 = static_cast<float>(1.0 - args.beta2),
                             .eps = static_cast<float>(args.eps)};
  with_float_type(args.grad.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(adamw_kernel<T>, grid_for(args.param.size, kThreads), kThreads, 0, args.param.size, factors,
           args.grad.as<T>(), args.param.f32(), args.m.f32(), args.v.f32());
  });
}

}  // namespace birkhoff::cuda
