// Softmax on CUDA, a block per row; see ops/softmax.h. The row is read twice, the second time from a cache.
#include "cuda/rows.h"
#include "ops/softmax.h"

namespace birkhoff::cuda {
namespace {

template <bool Vector, class T>
__global__ void __launch_bounds__(kRowThreads) softmax_forward_kernel(const T* x, T* y, int64_t rows, int64_t columns) {
  BIRKHOFF_SHARED(float, scratch, [kRowThreads / 32]);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* from = x + row * columns;
    const MaxAndSum of = max_and_sum_exp<Vector>(from, columns, scratch);
    const float inverse = 1.0f / of.sum;
    for_groups(columns, [&](int64_t c, int64_t count) {
      float v[8];
      load_some<Vector>(from + c, count, v);
#pragma unroll
      for (int k = 0; k < 8; ++k) v[k] = vexp(v[k] - of.top) * inverse;
      store_some<Vector>(y + row * columns + c, count, v);
    });
  }
}

// dx = y (dy - sum dy y)
template <bool Vector, class T>
__global__ void __launch_bounds__(kRowThreads)
    softmax_backward_kernel(const T* y, const T* grad_y, T* grad_x, int64_t rows, int64_t columns) {
  BIRKHOFF_SHARED(float, scratch, [kRowThreads / 32]);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const int64_t at = row * columns;
    float dot = 0.0f;
    for_groups(columns, [&](int64_t c, int64_t count) {
      float value[8], grad[8];
      load_some<Vector>(y + at + c, count, value);
      load_some<Vector>(grad_y + at + c, count, grad);
#pragma unroll
      for (int k = 0; k < 8; ++k) dot = vfma(value[k], grad[k], dot);
    });
    dot = sum_block(dot, scratch);
    for_groups(columns, [&](int64_t c, int64_t count) {
      float value[8], grad[8];
      load_some<Vector>(y + at + c, count, value);
      load_some<Vector>(grad_y + at + c, count, grad);
#pragma unroll
      for (int k = 0; k < 8; ++k) value[k] = value[k] * (grad[k] - dot);
      store_some<Vector>(grad_x + at + c, count, value);
    });
  }
}

}  // namespace

void softmax_forward(const SoftmaxForwardArgs& args) {
  if (args.x.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.columns % 8 == 0 && aligned16(args.x, args.y), [&](auto vector) {
      launch(softmax_forward_kernel<vector(), T>, row_blocks(args.rows), threads_per_token(args.columns), 0,
             args.x.as<T>(), args.y.as<T>(), args.rows, args.columns);
    });
  });
}

void softmax_backward(const SoftmaxBackwardArgs& args) {
  if (args.y.size == 0) return;
  with_float_type(args.y.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.columns % 8 == 0 && aligned16(args.y, args.grad_y, args.grad_x), [&](auto vector) {
      launch(softmax_backward_kernel<vector(), T>, row_blocks(args.rows), threads_per_token(args.columns), 0,
             args.y.as<T>(), args.grad_y.as<T>(), args.grad_x.as<T>(), args.rows, args.columns);
    });
  });
}

}  // namespace birkhoff::cuda
