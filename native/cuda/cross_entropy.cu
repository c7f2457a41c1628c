// Cross entropy on CUDA, a block per token; see ops/cross_entropy.h. Forward reads the logits once. The losses of the
// tokens are summed in double, in a fixed order.
#include "core/normal.h"
#include "cuda/rows.h"
#include "ops/cross_entropy.h"

namespace birkhoff::cuda {
namespace {

constexpr int kSumThreads = 1024;
constexpr int64_t kSegment = 4 * 8 * kRowThreads;  // classes of one block of the backward pass

template <bool Vector, class T>
__global__ void __launch_bounds__(kRowThreads)
    cross_entropy_forward_kernel(const T* logits, const int32_t* targets, float* log_sum_exp, float* losses,
                                 int64_t tokens, int64_t classes, IndexErrors::Word* bad) {
  BIRKHOFF_SHARED(float, scratch, [kRowThreads / 32]);
  for (int64_t t = blockIdx.x; t < tokens; t += gridDim.x) {
    const T* row = logits + t * classes;
    const MaxAndSum of = max_and_sum_exp<Vector>(row, classes, scratch);
    if (threadIdx.x != 0) continue;
    // In double, by code that rounds the same everywhere; the sum is at least 1, or NaN.
    const float log_sum = of.sum == of.sum ? static_cast<float>(log_of_normal(static_cast<double>(of.sum))) : of.sum;
    log_sum_exp[t] = of.top + log_sum;
    const int32_t target = targets[t];
    if (target < 0 || target >= classes) {
      report_index(bad, t, target);
      losses[t] = 0.0f;
      continue;
    }
    // Not logSumExp - logit: for a large maximum that would lose the digits of log_sum.
    losses[t] = log_sum - (to_float(row[target]) - of.top);
  }
}

__global__ void __launch_bounds__(kSumThreads) mean_kernel(const float* losses, int64_t tokens, float* loss) {
  BIRKHOFF_SHARED(double, scratch, [kSumThreads / 32]);
  double sum = 0.0;
  for (int64_t t = threadIdx.x; t < tokens; t += blockDim.x) sum += static_cast<double>(losses[t]);
  sum = sum_block(sum, scratch);
  if (threadIdx.x == 0) *loss = static_cast<float>(sum / static_cast<double>(tokens));
}

// Blocks: x over tokens, y over segments of the classes. A target out of range has already failed the forward pass.
template <bool Vector, class T>
__global__ void __launch_bounds__(kRowThreads)
    cross_entropy_backward_kernel(const T* logits, const int32_t* targets, const float* log_sum_exp,
                                  const float* grad_loss, T* grad_logits, int64_t tokens, int64_t classes) {
  const float scale = *grad_loss / static_cast<float>(tokens);
  for (int64_t t = blockIdx.x; t < tokens; t += gridDim.x) {
    const float shift = log_sum_exp[t];
    const int64_t target = targets[t];
    for (int64_t first = blockIdx.y * kSegment; first < classes; first += gridDim.y * kSegment) {
      const int64_t end = first + kSegment < classes ? first + kSegment : classes;
#pragma unroll 2
      for (int64_t c = first + threadIdx.x * 8; c < end; c += int64_t{blockDim.x} * 8) {
        float v[8];
        load_some<Vector>(logits + t * classes + c, end - c, v);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[k] = (vexp(v[k] - shift) - (c + k == target ? 1.0f : 0.0f)) * scale;
        store_some<Vector>(grad_logits + t * classes + c, end - c, v);
      }
    }
  }
}

}  // namespace

void cross_entropy_forward(const CrossEntropyForwardArgs& args) {
  float* const losses = static_cast<float*>(args.scratch);
  IndexErrors::Word* const bad = current().index_errors.word("crossEntropy", "targets", args.classes);
  with_float_type(args.logits.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.classes % 8 == 0 && aligned16(args.logits), [&](auto vector) {
      launch(cross_entropy_forward_kernel<vector(), T>, row_blocks(args.tokens), threads_per_token(args.classes), 0,
             args.logits.as<T>(), args.targets.i32(), args.log_sum_exp.f32(), losses, args.tokens, args.classes, bad);
    });
  });
  const int64_t warps = ceil_div(args.tokens, 32);
  launch(mean_kernel, 1, static_cast<unsigned>(warps < kSumThreads / 32 ? warps * 32 : kSumThreads), 0, losses,
         args.tokens, args.loss.f32());
}

void cross_entropy_backward(const CrossEntropyBackwardArgs& args) {
  if (args.logits.size == 0) return;
  const int64_t segments = ceil_div(args.classes, kSegment);
  const dim3 grid(row_blocks(args.tokens), static_cast<unsigned>(segments < 65535 ? segments : 65535));
  with_float_type(args.logits.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.classes % 8 == 0 && aligned16(args.logits, args.grad_logits), [&](auto vector) {
      launch(cross_entropy_backward_kernel<vector(), T>, grid, threads_per_token(args.classes), 0, args.logits.as<T>(),
             args.targets.i32(), args.log_sum_exp.f32(), args.grad_loss.f32(), args.grad_logits.as<T>(), args.tokens,
             args.classes);
    });
  });
}

}  // namespace birkhoff::cuda
