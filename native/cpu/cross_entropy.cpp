// Cross entropy on CPU: a task is a group of tokens; the losses of the tokens are summed in their order, in double.
#include <math.h>

#include "core/raise.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

template <class Body>
BIRKHOFF_INLINE void for_tokens(int64_t tokens, int64_t classes, const Body& body) {
  const int64_t per_task = max64(1, (1 << 14) / max64(classes, 1));
  parallel(ceil_div(tokens, per_task), [&](int64_t task) {
    const int64_t end = min64(tokens, (task + 1) * per_task);
    for (int64_t t = task * per_task; t < end; ++t) body(t);
  });
}

}  // namespace

void cross_entropy_forward(const CrossEntropyForwardArgs& args) {
  const int64_t classes = args.classes;
  float* const losses = static_cast<float*>(args.scratch);
  with_float_type(args.logits.dtype, [&](auto* type) {
    for_tokens(args.tokens, classes, [&](int64_t t) {
      const int64_t target = args.targets.i32()[t];
      if (target < 0 || target >= classes) raise_index("crossEntropy", "targets", t, target, classes);
      const auto* logits = static_cast<decltype(type)>(args.logits.data) + t * classes;
      const float top = row_max(logits, classes);
      const float log_sum = logf(row_sum_exp(logits, top, classes));
      args.log_sum_exp.f32()[t] = top + log_sum;
      // Not logSumExp - logit: for a large maximum that would lose the digits of log_sum.
      losses[t] = log_sum - (to_float(logits[target]) - top);
    });
  });
  double sum = 0;
  for (int64_t t = 0; t < args.tokens; ++t) sum += losses[t];
  *args.loss.f32() = static_cast<float>(sum / static_cast<double>(args.tokens));
}

void cross_entropy_backward(const CrossEntropyBackwardArgs& args) {
  const int64_t classes = args.classes;
  const float scale = *args.grad_loss.f32() / static_cast<float>(args.tokens);
  with_float_type(args.logits.dtype, [&](auto* type) {
    for_tokens(args.tokens, classes, [&](int64_t t) {
      const auto* logits = static_cast<decltype(type)>(args.logits.data) + t * classes;
      auto* grad = static_cast<decltype(type)>(args.grad_logits.data) + t * classes;
      const float shift = args.log_sum_exp.f32()[t];
      for_vectors(classes, [&](int64_t i, int64_t count) {
        store_upto(grad + i, vexp(load_upto(logits + i, count) - shift) * scale, count);
      });
      // A target out of range has already failed the forward pass; here it must only not be written to.
      const int64_t target = args.targets.i32()[t];
      if (target < 0 || target >= classes) return;
      from_float((vexp(to_float(logits[target]) - shift) - 1.0f) * scale, grad[target]);
    });
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
