// Gradient norm on CUDA; see ops/gradient_norm.h. A block per task: float32 over a thread's elements, double from
// there, in a fixed order.
#include "cuda/math.h"
#include "ops/gradient_norm.h"

namespace birkhoff::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) squares_kernel(const T* x, int64_t size, double* partial) {
  BIRKHOFF_SHARED(double, scratch, [kThreads / 32]);
  const int64_t begin = blockIdx.x * SumSquaresArgs::kPerTask;
  const int64_t end = begin + SumSquaresArgs::kPerTask < size ? begin + SumSquaresArgs::kPerTask : size;
  float sum = 0.0f;
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
    const float v = to_float(x[i]);
    sum = vfma(v, v, sum);
  }
  const double total = sum_block(static_cast<double>(sum), scratch);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

__global__ void __launch_bounds__(32)
    fold_squares_kernel(const double* partial, int64_t tasks, bool accumulate, float* out) {
  double sum = 0;
  for (int64_t task = threadIdx.x; task < tasks; task += 32) sum += partial[task];
  sum = sum_warp(sum);
  if (threadIdx.x == 0) *out = static_cast<float>((accumulate ? static_cast<double>(*out) : 0.0) + sum);
}

__global__ void __launch_bounds__(32) square_root_kernel(const float* x, float* out) {
  if (threadIdx.x == 0) *out = sqrtf(*x);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    clip_scale_kernel(T* x, int64_t size, const float* sum_squares, double max_norm) {
  const double squares = static_cast<double>(*sum_squares);
  if (!(squares <= 3.4028234663852886e38)) return;  // infinite or NaN: scaling would only hide it
  const float factor = static_cast<float>(max_norm / (sqrt(squares) + 1e-6));
  if (!(factor < 1.0f)) return;
  const int64_t step = int64_t{kThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += step)
    from_float(to_float(x[i]) * factor, x[i]);
}

}  // namespace

void sum_squares(const SumSquaresArgs& args) {
  double* const partial = static_cast<double*>(args.scratch);
  if (args.x.size > 0)
    with_float_type(args.x.dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      launch(squares_kernel<T>, static_cast<unsigned>(args.tasks()), kThreads, 0, args.x.as<T>(), args.x.size, partial);
    });
  launch(fold_squares_kernel, 1, 32, 0, partial, args.tasks(), args.accumulate != 0, args.out.f32());
}

void square_root(const SquareRootArgs& args) {
  launch(square_root_kernel, 1, 32, 0, args.x.f32(), args.out.f32());
}

void clip_scale(const ClipScaleArgs& args) {
  if (args.x.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(clip_scale_kernel<T>, grid_for(args.x.size, kThreads), kThreads, 0, args.x.as<T>(), args.x.size,
           args.sum_squares.f32(), args.max_norm);
  });
}

}  // namespace birkhoff::cuda
