// Cross entropy on CUDA, fused with its softmax; see ops/cross_entropy.h. A block per token; the losses are added in
// double, in a fixed order.
#include "cuda/index_fault.h"
#include "cuda/rows.h"
#include "ops/cross_entropy.h"

namespace birkhoff::cuda {
namespace {

template <bool Vector, class T>
__global__ void __launch_bounds__(256)
    cross_entropy_forward_kernel(const T* logits, const int32_t* targets, float* log_sum_exp, float* losses,
                                 int64_t classes, IndexFault* fault) {
  BIRKHOFF_SHARED(float, scratch, [8]);
  const int64_t t = blockIdx.x;
  logits += t * classes;
  float top = -__builtin_huge_valf();
  for_row(classes, [&](int64_t c, int64_t count) {
    float v[8];
    load_some<Vector>(logits + c, count, v);
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (k < count) top = vmax(v[k], top);
  });
  top = max_block(top, scratch);
  float sum = 0.0f;
  for_row(classes, [&](int64_t c, int64_t count) {
    float v[8];
    load_some<Vector>(logits + c, count, v);
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (k < count) sum += vexp(v[k] - top);
  });
  const float log_sum = logf(sum_block(sum, scratch));
  if (threadIdx.x != 0) return;
  log_sum_exp[t] = top + log_sum;
  const int32_t target = targets[t];
  if (target < 0 || target >= classes) {
    report_index(fault, t, target, classes);
    losses[t] = 0.0f;
  } else {
    // Not logSumExp - logit: for a large maximum that would lose the digits of log_sum.
    losses[t] = log_sum - (to_float(logits[target]) - top);
  }
}

__global__ void __launch_bounds__(256) mean_loss_kernel(const float* losses, int64_t tokens, float* loss) {
  BIRKHOFF_SHARED(double, scratch, [8]);
  double sum = 0;
  for (int64_t t = threadIdx.x; t < tokens; t += 256) sum += losses[t];
  sum = sum_block(sum, scratch);
  if (threadIdx.x == 0) *loss = static_cast<float>(sum / static_cast<double>(tokens));
}

template <bool Vector, class T>
__global__ void __launch_bounds__(256)
    cross_entropy_backward_kernel(const T* logits, const int32_t* targets, const float* log_sum_exp,
                                  const float* grad_loss, T* grad, int64_t classes) {
  const int64_t t = blockIdx.x, target = targets[t];
  logits += t * classes, grad += t * classes;
  const float scale = *grad_loss / static_cast<float>(gridDim.x), shift = log_sum_exp[t];
  for_row(classes, [&](int64_t c, int64_t count) {
    float v[8];
    load_some<Vector>(logits + c, count, v);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const float p = vexp(v[k] - shift);
      v[k] = (c + k == target ? p - 1.0f : p) * scale;
    }
    store_some<Vector>(grad + c, count, v);
  });
}

}  // namespace

void cross_entropy_forward(const CrossEntropyForwardArgs& args) {
  float* const losses = static_cast<float*>(args.scratch);
  with_float_type(args.logits.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.classes % 8 == 0 && aligned16(args.logits), [&](auto vector) {
      launch(cross_entropy_forward_kernel<vector(), T>, static_cast<unsigned>(args.tokens), row_threads(args.classes),
             0, args.logits.as<T>(), args.targets.i32(), args.log_sum_exp.f32(), losses, args.classes,
             current().index_fault(IndexedOp::kCrossEntropy));
    });
  });
  launch(mean_loss_kernel, 1, 256, 0, losses, args.tokens, args.loss.f32());
}

void cross_entropy_backward(const CrossEntropyBackwardArgs& args) {
  if (args.logits.size == 0) return;
  with_float_type(args.logits.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.classes % 8 == 0 && aligned16(args.logits, args.grad_logits), [&](auto vector) {
      launch(cross_entropy_backward_kernel<vector(), T>, static_cast<unsigned>(args.tokens), row_threads(args.classes),
             0, args.logits.as<T>(), args.targets.i32(), args.log_sum_exp.f32(), args.grad_loss.f32(),
             args.grad_logits.as<T>(), args.classes);
    });
  });
}

}  // namespace birkhoff::cuda
