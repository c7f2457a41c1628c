// The pieces of gradient clipping on CUDA; see ops/gradient_norm.h. Sums of squares: float32 within a thread's share of
// a task, double beyond, in a fixed order; a task is a block's.
#include <cmath>

#include "cuda/math.h"
#include "ops/gradient_norm.h"

namespace birkhoff::cuda {
namespace {

constexpr int kGradientNormThreads = 256;

// The only task writes the result at once.
template <bool Vector, class T>
__global__ void __launch_bounds__(kGradientNormThreads)
    squares_kernel(const T* x, int64_t size, double* partial, float* out, bool accumulate) {
  BIRKHOFF_SHARED(double, scratch, [kGradientNormThreads / 32]);
  constexpr int64_t kPerTask = SumSquaresArgs::kPerTask;
  const int64_t tasks = (size + kPerTask - 1) / kPerTask;
  for (int64_t task = blockIdx.x; task < tasks; task += gridDim.x) {
    const int64_t end = (task + 1) * kPerTask < size ? (task + 1) * kPerTask : size;
    float sum = 0.0f;
#pragma unroll 4
    for (int64_t i = task * kPerTask + threadIdx.x * 8; i < end; i += 8 * kGradientNormThreads) {
      float v[8];
      load_some<Vector>(x + i, end - i, v);
#pragma unroll
      for (int k = 0; k < 8; ++k) sum = vfma(v[k], v[k], sum);
    }
    const double total = sum_block(static_cast<double>(sum), scratch);
    if (threadIdx.x != 0) continue;
    if (tasks == 1)
      *out = static_cast<float>(accumulate ? static_cast<double>(*out) + total : total);
    else
      partial[task] = total;
  }
}

__global__ void __launch_bounds__(kGradientNormThreads)
    gradient_norm_fold_kernel(const double* partial, int64_t tasks, float* out, bool accumulate) {
  BIRKHOFF_SHARED(double, scratch, [kGradientNormThreads / 32]);
  double sum = 0.0;
  for (int64_t task = threadIdx.x; task < tasks; task += kGradientNormThreads) sum += partial[task];
  sum = sum_block(sum, scratch);
  if (threadIdx.x == 0) *out = static_cast<float>(accumulate ? static_cast<double>(*out) + sum : sum);
}

__global__ void __launch_bounds__(32) square_root_kernel(const float* x, float* out) {
  if (threadIdx.x == 0) *out = vsqrt(*x);
}

template <bool Vector, class T>
__global__ void __launch_bounds__(kGradientNormThreads)
    clip_kernel(T* x, int64_t size, const float* sum_squares, double max_norm) {
  const double squares = static_cast<double>(*sum_squares);
  if (!(squares <= 3.4028234663852886e38)) return;  // infinite or NaN: scaling would only hide it
  const float factor = static_cast<float>(max_norm / (sqrt(squares) + 1e-6));
  if (!(factor < 1.0f)) return;
  const int64_t step = int64_t{8} * kGradientNormThreads * gridDim.x;
  for (int64_t i = (int64_t{blockIdx.x} * kGradientNormThreads + threadIdx.x) * 8; i < size; i += step) {
    float v[8];
    load_some<Vector>(x + i, size - i, v);
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] *= factor;
    store_some<Vector>(x + i, size - i, v);
  }
}

}  // namespace

void sum_squares(const SumSquaresArgs& args) {
  const int64_t tasks = args.tasks();
  double* const partial = static_cast<double*>(args.scratch);
  const bool accumulate = args.accumulate != 0;
  if (tasks > 0)
    with_float_type(args.x.dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      with_bool(args.x.size % 8 == 0 && aligned16(args.x), [&](auto vector) {
        launch(squares_kernel<vector(), T>, grid_for(tasks, 1), kGradientNormThreads, 0, args.x.as<T>(), args.x.size,
               partial, args.out.f32(), accumulate);
      });
    });
  if (tasks != 1)
    launch(gradient_norm_fold_kernel, 1, kGradientNormThreads, 0, partial, tasks, args.out.f32(), accumulate);
}

void square_root(const SquareRootArgs& args) {
  launch(square_root_kernel, 1, 32, 0, args.x.f32(), args.out.f32());
}

void clip_scale(const ClipScaleArgs& args) {
  if (args.x.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.x.size % 8 == 0 && aligned16(args.x), [&](auto vector) {
      launch(clip_kernel<vector(), T>, grid_for(args.x.size, 8 * kGradientNormThreads), kGradientNormThreads, 0,
             args.x.as<T>(), args.x.size, args.sum_squares.f32(), args.max_norm);
    });
  });
}

}  // namespace birkhoff::cuda
