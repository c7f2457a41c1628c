// AdamW with decoupled weight decay (Loshchilov and Hutter, arXiv:1711.05101), in place.
//
//   param *= 1 - lr * weightDecay
//   m = beta1 * m + (1 - beta1) * grad;   v = beta2 * v + (1 - beta2) * grad^2
//   param -= lr * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)
//
// param, m, v float32; grad float32 or bfloat16; all of one size. step counts from 1.
#pragma once
#include "core/checks.h"

namespace birkhoff {

struct AdamWArgs {
  static constexpr const char* kName = "adamw";
  View param, grad, m, v;
  double lr, beta1, beta2, eps, weight_decay;
  int64_t step;

  template <class F>
  void fields(F&& field) {
    field("param", param), field("grad", grad), field("m", m), field("v", v), field("lr", lr), field("beta1", beta1);
    field("beta2", beta2), field("eps", eps), field("weightDecay", weight_decay), field("step", step);
  }
  void check() const {
    require_range(kName, "step", step, 1, kMaxSize);
    require_dtype(kName, "param", param, DType::kFloat32), require_float(kName, "grad", grad);
    require_dtype(kName, "m", m, DType::kFloat32), require_dtype(kName, "v", v, DType::kFloat32);
    require_size(kName, "grad", grad, {param.size}), require_size(kName, "m", m, {param.size});
    require_size(kName, "v", v, {param.size});
  }
};

}  // namespace birkhoff
