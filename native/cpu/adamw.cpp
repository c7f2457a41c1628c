// AdamW on CPU: one pass over the four arrays.
#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

void adamw(const AdamWArgs& args) {
  constexpr int64_t kPerTask = 1 << 14;
  const float* factors = args.slot_factors();
  const float rate = factors[0], root_scale = factors[1], decay = factors[2];
  const vf beta1 = broadcast(static_cast<float>(args.beta1)), rest1 = broadcast(static_cast<float>(1.0 - args.beta1));
  const vf beta2 = broadcast(static_cast<float>(args.beta2)), rest2 = broadcast(static_cast<float>(1.0 - args.beta2));
  const float eps = static_cast<float>(args.eps);
  const int64_t size = args.param.size;
  with_float_type(args.grad.dtype, [&](auto* type) {
    parallel(ceil_div(size, kPerTask), [&](int64_t task) {
      const int64_t start = task * kPerTask;
      const auto* grad = static_cast<decltype(type)>(args.grad.data) + start;
      float* param = args.param.f32() + start;
      float* m = args.m.f32() + start;
      float* v = args.v.f32() + start;
      for_vectors(min64(kPerTask, size - start), [&](int64_t i, int64_t count) {
        const vf g = load_upto(grad + i, count);
        const vf first = vfma(beta1, load_upto(m + i, count), rest1 * g);
        const vf second = vfma(beta2, load_upto(v + i, count), rest2 * (g * g));
        const vf update = first / (vsqrt(second) * root_scale + eps);
        store_upto(m + i, first, count);
        store_upto(v + i, second, count);
        store_upto(param + i, load_upto(param + i, count) * decay - update * rate, count);
      });
    });
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
