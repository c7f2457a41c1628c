// Softmax on CUDA; see ops/softmax.h. A block per row, which stays in the caches between the passes.
#include "cuda/rows.h"
#include "ops/softmax.h"

namespace birkhoff::cuda {
namespace {

template <bool Vector, class T>
__global__ void __launch_bounds__(256) softmax_forward_kernel(const T* x, T* y, int64_t columns) {
  BIRKHOFF_SHARED(float, scratch, [8]);
  x += blockIdx.x * columns, y += blockIdx.x * columns;
  float top = -__builtin_huge_valf();
  for_row(columns, [&](int64_t c, int64_t count) {
    float v[8];
    load_some<Vector>(x + c, count, v);
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (k < count) top = vmax(v[k], top);
  });
  top = max_block(top, scratch);
  float sum = 0.0f;
  for_row(columns, [&](int64_t c, int64_t count) {
    float v[8];
    load_some<Vector>(x + c, count, v);
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (k < count) sum += vexp(v[k] - top);
  });
  const float inverse = 1.0f / sum_block(sum, scratch);
  for_row(columns, [&](int64_t c, int64_t count) {
    float v[8];
    load_some<Vector>(x + c, count, v);
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = vexp(v[k] - top) * inverse;
    store_some<Vector>(y + c, count, v);
  });
}

template <bool Vector, class T>
__global__ void __launch_bounds__(256) softmax_backward_kernel(const T* y, const T* dy, T* dx, int64_t columns) {
  BIRKHOFF_SHARED(float, scratch, [8]);
  y += blockIdx.x * columns, dy += blockIdx.x * columns, dx += blockIdx.x * columns;
  float dot = 0.0f;
  for_row(columns, [&](int64_t c, int64_t count) {
    float v[8], g[8];
    load_some<Vector>(y + c, count, v), load_some<Vector>(dy + c, count, g);
#pragma unroll
    for (int k = 0; k < 8; ++k) dot = vfma(v[k], g[k], dot);
  });
  dot = sum_block(dot, scratch);
  for_row(columns, [&](int64_t c, int64_t count) {
    float v[8], g[8];
    load_some<Vector>(y + c, count, v), load_some<Vector>(dy + c, count, g);
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = v[k] * (g[k] - dot);
    store_some<Vector>(dx + c, count, v);
  });
}

}  // namespace

void softmax_forward(const SoftmaxForwardArgs& args) {
  if (args.x.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.columns % 8 == 0 && aligned16(args.x, args.y), [&](auto vector) {
      launch(softmax_forward_kernel<vector(), T>, static_cast<unsigned>(args.rows), row_threads(args.columns), 0,
             args.x.as<T>(), args.y.as<T>(), args.columns);
    });
  });
}

void softmax_backward(const SoftmaxBackwardArgs& args) {
  if (args.y.size == 0) return;
  with_float_type(args.y.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.columns % 8 == 0 && aligned16(args.y, args.grad_y, args.grad_x), [&](auto vector) {
      launch(softmax_backward_kernel<vector(), T>, static_cast<unsigned>(args.rows), row_threads(args.columns), 0,
             args.y.as<T>(), args.grad_y.as<T>(), args.grad_x.as<T>(), args.columns);
    });
  });
}

}  // namespace birkhoff::cuda
