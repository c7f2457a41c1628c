// Mean of -log softmax(logits)[target], in one pass over the logits.
//
//   logits [tokens, classes], targets [tokens] int32, logSumExp [tokens] float32, loss [1] float32
//   logSumExp[t] = log sum over v of exp(logits[t, v]);   loss = mean over t of (logSumExp[t] - logits[t, targets[t]])
//   dlogits[t, v] = (exp(logits[t, v] - logSumExp[t]) - (v = targets[t])) * dloss / tokens
#pragma once
#include "core/checks.h"

namespace birkhoff {

struct CrossEntropyForwardArgs {
  static constexpr const char* kName = "crossEntropy";
  View logits, targets, log_sum_exp, loss;
  int64_t tokens, classes;
  void* scratch = nullptr;

  template <class F>
  void fields(F&& field) {
    field("logits", logits), field("targets", targets), field("logSumExp", log_sum_exp), field("loss", loss);
    field("tokens", tokens), field("classes", classes);
  }
  void check() const {
    require_range(kName, "tokens", tokens, 1, (int64_t{1} << 31) - 1);
    require_float(kName, "logits", logits), require_dtype(kName, "targets", targets, DType::kInt32);
    require_dtype(kName, "logSumExp", log_sum_exp, DType::kFloat32),
        require_dtype(kName, "loss", loss, DType::kFloat32);
    require_size(kName, "logits", logits, {tokens, classes}), require_size(kName, "targets", targets, {tokens});
    require_size(kName, "logSumExp", log_sum_exp, {tokens}), require_size(kName, "loss", loss, {1});
  }
  int64_t scratch_bytes() const { return 4 * tokens; }  // the loss of each token
  int64_t cuda_scratch_bytes() const { return scratch_bytes(); }
};

struct CrossEntropyBackwardArgs {
  static constexpr const char* kName = "crossEntropy backward";
  View logits, targets, log_sum_exp, grad_loss, grad_logits;
  int64_t tokens, classes;

  template <class F>
  void fields(F&& field) {
    field("logits", logits), field("targets", targets), field("logSumExp", log_sum_exp), field("gradLoss", grad_loss);
    field("gradLogits", grad_logits), field("tokens", tokens), field("classes", classes);
  }
  void check() const {
    require_range(kName, "tokens", tokens, 1, kMaxSize);
    require_float(kName, "logits", logits), require_dtype(kName, "targets", targets, DType::kInt32);
    require_dtype(kName, "logSumExp", log_sum_exp, DType::kFloat32);
    require_dtype(kName, "gradLoss", grad_loss, DType::kFloat32);
    require_dtype(kName, "gradLogits", grad_logits, logits.dtype);
    require_size(kName, "logits", logits, {tokens, classes}), require_size(kName, "targets", targets, {tokens});
    require_size(kName, "logSumExp", log_sum_exp, {tokens}), require_size(kName, "gradLoss", grad_loss, {1});
    require_size(kName, "gradLogits", grad_logits, {tokens, classes});
  }
};

}  // namespace birkhoff
