// AdamW with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101), in place.
//
//   param *= 1 - lr * weightDecay
//   m = beta1 * m + (1 - beta1) * grad;   v = beta2 * v + (1 - beta2) * grad^2
//   param -= lr * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)
//
// param, m, v float32; grad float32 or bfloat16; all of one size. What changes from step to step is in memory of the
// device, so that a recorded update can be launched again:
//
//   factors [slots, 3] float32:  lr / (1 - beta1^step),  1 / sqrt(1 - beta2^step),  1 - lr * weightDecay
#pragma once
#include "core/checks.h"

namespace birkhoff {

struct AdamWArgs {
  static constexpr const char* kName = "adamw";
  View param, grad, m, v, factors;
  int64_t slot;
  double beta1, beta2, eps;

  template <class F>
  void fields(F&& field) {
    field("param", param), field("grad", grad), field("m", m), field("v", v), field("factors", factors);
    field("slot", slot), field("beta1", beta1), field("beta2", beta2), field("eps", eps);
  }
  void check() const {
    require_dtype(kName, "factors", factors, DType::kFloat32);
    require_range(kName, "slot", slot, 0, factors.size / 3 - 1);
    require_dtype(kName, "param", param, DType::kFloat32), require_float(kName, "grad", grad);
    require_dtype(kName, "m", m, DType::kFloat32), require_dtype(kName, "v", v, DType::kFloat32);
    require_size(kName, "grad", grad, {param.size}), require_size(kName, "m", m, {param.size});
    require_size(kName, "v", v, {param.size});
  }
  const float* slot_factors() const { return factors.f32() + 3 * slot; }
};

}  // namespace birkhoff
