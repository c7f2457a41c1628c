// Rows of a table by index.
//
//   indices [tokens] int32, weight [vocabulary, channels], out [tokens, channels]
//   out[t] = weight[indices[t]];   gradWeight[v] = sum over t with indices[t] = v of gradOut[t], in the order of t
#pragma once
#include "core/checks.h"

namespace birkhoff {

struct EmbeddingForwardArgs {
  static constexpr const char* kName = "embedding";
  View indices, weight, out;
  int64_t tokens, vocabulary, channels;

  template <class F>
  void fields(F&& field) {
    field("indices", indices), field("weight", weight), field("out", out), field("tokens", tokens);
    field("vocabulary", vocabulary), field("channels", channels);
  }
  void check() const {
    require_range(kName, "tokens", tokens, 0, (int64_t{1} << 31) - 1);
    require_dtype(kName, "indices", indices, DType::kInt32), require_float(kName, "weight", weight);
    require_dtype(kName, "out", out, weight.dtype), require_size(kName, "indices", indices, {tokens});
    require_size(kName, "weight", weight, {vocabulary, channels}), require_size(kName, "out", out, {tokens, channels});
  }
};

struct EmbeddingBackwardArgs {
  static constexpr const char* kName = "embedding backward";
  View indices, grad_out, grad_weight;
  int64_t tokens, vocabulary, channels;
  void* scratch = nullptr;

  template <class F>
  void fields(F&& field) {
    field("indices", indices), field("gradOut", grad_out), field("gradWeight", grad_weight), field("tokens", tokens);
    field("vocabulary", vocabulary), field("channels", channels);
  }
  void check() const {
    constexpr int64_t kMost = (int64_t{1} << 31) - 1;
    require_range(kName, "tokens", tokens, 0, kMost), require_range(kName, "vocabulary", vocabulary, 0, kMost);
    require_dtype(kName, "indices", indices, DType::kInt32), require_float(kName, "gradOut", grad_out);
    require_float(kName, "gradWeight", grad_weight), require_size(kName, "indices", indices, {tokens});
    require_size(kName, "gradOut", grad_out, {tokens, channels});
    require_size(kName, "gradWeight", grad_weight, {vocabulary, channels});
  }
  // Per row of the table its first token, per token the next one with the same index.
  int64_t scratch_bytes() const { return grad_weight.size ? 4 * (vocabulary + tokens) : 0; }
  // On CUDA: per row of the table where its tokens begin and end in the sorted order, then two orders of index and
  // token.
  int64_t cuda_scratch_bytes() const { return grad_weight.size ? 4 * (2 * vocabulary + 4 * tokens) : 0; }
};

}  // namespace birkhoff
