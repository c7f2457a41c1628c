// Scaled dot-product attention without the T x T matrix in memory (FlashAttention, arXiv:2205.14135).
//
//   q, k, v, out [heads, T, D] (heads: every leading axis together), logSumExp [heads, T] float32
//   S = scale * q kT, causal: S[i, j] = -infinity for j > i;   P = softmax(S);   out = P v
//   forward keeps logSumExp[i] = log sum over j of exp(S[i, j]); backward computes P = exp(S - logSumExp) again:
//   dv = PT dout,  dP = dout vT,  dS = P * (dP - delta),  delta[i] = sum over d of dout * out,
//   dq = scale * dS k,  dk = scale * dST q
#pragma once
#include "core/checks.h"

namespace birkhoff {

inline constexpr int64_t kMaxHeadSize = 256;

// On CUDA the scores of 256 queries (backward: keys) of several heads at a time are in memory: as many heads as 256 MiB
// hold, at least one. With bfloat16 inputs P and dS are rounded to bfloat16 before they are multiplied again.
struct CudaAttentionPass {
  static constexpr int64_t kBlock = 256, kMostBytes = int64_t{256} << 20;
  int64_t heads;           // at a time
  int64_t scores;          // floats per head, rounded up
  int64_t bytes_per_head;  // of scratch, all of it

  CudaAttentionPass(int64_t all_heads, int64_t length, int64_t bytes_per_score, int64_t more_bytes)
      : scores((length * (length < kBlock ? length : kBlock) + 63) / 64 * 64),
        bytes_per_head(scores * bytes_per_score + more_bytes) {
    const int64_t most = bytes_per_head > 0 ? kMostBytes / bytes_per_head : all_heads;
    heads = most < 1 ? 1 : most;
    heads = heads < all_heads ? heads : all_heads;
  }
};

struct AttentionForwardArgs {
  static constexpr const char* kName = "attention";
  View q, k, v, out, log_sum_exp;
  int64_t heads, length, head_size, causal;
  double scale;
  void* scratch = nullptr;

  template <class F>
  void fields(F&& field) {
    field("q", q), field("k", k), field("v", v), field("out", out), field("logSumExp", log_sum_exp);
    field("heads", heads), field("length", length), field("headSize", head_size), field("causal", causal);
    field("scale", scale);
  }
  void check() const {
    require_range(kName, "headSize", head_size, 1, kMaxHeadSize), require_float(kName, "q", q);
    for (const View* view : {&q, &k, &v, &out}) {
      require_dtype(kName, "tensor", *view, q.dtype);
      require_size(kName, "tensor", *view, {heads, length, head_size});
    }
    require_dtype(kName, "logSumExp", log_sum_exp, DType::kFloat32);
    require_size(kName, "logSumExp", log_sum_exp, {heads, length});
  }
  // Scores, and P where it is bfloat16.
  CudaAttentionPass cuda_pass() const { return {heads, length, q.dtype == DType::kBFloat16 ? 6 : 4, 0}; }
  int64_t cuda_scratch_bytes() const {
    const CudaAttentionPass pass = cuda_pass();
    return pass.heads * pass.bytes_per_head;
  }
};

struct AttentionBackwardArgs {
  static constexpr const char* kName = "attention backward";
  View q, k, v, out, log_sum_exp, grad_out;
  OptionalView grad_q, grad_k, grad_v;
  int64_t heads, length, head_size, causal;
  double scale;
  void* scratch = nullptr;

  template <class F>
  void fields(F&& field) {
    field("q", q), field("k", k), field("v", v), field("out", out), field("logSumExp", log_sum_exp);
    field("gradOut", grad_out), field("gradQ", grad_q), field("gradK", grad_k), field("gradV", grad_v);
    field("heads", heads), field("length", length), field("headSize", head_size), field("causal", causal);
    field("scale", scale);
  }
  void check() const {
    require_range(kName, "headSize", head_size, 1, kMaxHeadSize), require_float(kName, "q", q);
    for (const View* view : {&q, &k, &v, &out, &grad_out}) {
      require_dtype(kName, "tensor", *view, q.dtype);
      require_size(kName, "tensor", *view, {heads, length, head_size});
    }
    for (const View* view :
         {static_cast<const View*>(&grad_q), static_cast<const View*>(&grad_k), static_cast<const View*>(&grad_v)}) {
      require_dtype(kName, "gradient", *view, q.dtype);
      require_optional_size(kName, "gradient", *view, {heads, length, head_size});
    }
    require_dtype(kName, "logSumExp", log_sum_exp, DType::kFloat32);
    require_size(kName, "logSumExp", log_sum_exp, {heads, length});
  }
  // delta, and for a bfloat16 gradient of q its float32 sums.
  int64_t scratch_bytes() const {
    return 4 * heads * length * (1 + (grad_q && grad_q.dtype == DType::kBFloat16 ? head_size : 0));
  }
  // Scores and dP; P and dS where they are bfloat16, and then the float32 sums of dq, too; delta.
  CudaAttentionPass cuda_pass() const {
    const bool narrow = q.dtype == DType::kBFloat16;
    return {heads, length, narrow ? 12 : 8, 4 * length * (1 + (narrow ? head_size : 0))};
  }
  int64_t cuda_scratch_bytes() const {
    const CudaAttentionPass pass = cuda_pass();
    return pass.heads * pass.bytes_per_head;
  }
};

}  // namespace birkhoff
