// Gradient norm on CPU. Sums of squares: float32 lanes over 512 elements at most, then double, in a fixed order.
#include <math.h>

#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

void sum_squares(const SumSquaresArgs& args) {
  constexpr int64_t kBlock = 512;
  double* const partial = static_cast<double*>(args.scratch);
  const int64_t tasks = args.tasks();
  with_float_type(args.x.dtype, [&](auto* type) {
    const auto* x = static_cast<decltype(type)>(args.x.data);
    parallel(tasks, [&](int64_t task) {
      const int64_t end = min64(args.x.size, (task + 1) * SumSquaresArgs::kPerTask);
      double sum = 0;
      for (int64_t i = task * SumSquaresArgs::kPerTask; i < end; i += kBlock)
        sum += static_cast<double>(row_dot(x + i, x + i, min64(kBlock, end - i)));
      partial[task] = sum;
    });
  });
  double sum = args.accumulate ? static_cast<double>(*args.out.f32()) : 0.0;
  for (int64_t task = 0; task < tasks; ++task) sum += partial[task];
  *args.out.f32() = static_cast<float>(sum);
}

void square_root(const SquareRootArgs& args) {
  *args.out.f32() = sqrtf(*args.x.f32());
}

void clip_scale(const ClipScaleArgs& args) {
  constexpr int64_t kPerTask = 1 << 15;
  const double squares = static_cast<double>(*args.sum_squares.f32());
  if (!(squares <= 3.4028234663852886e38)) return;  // infinite or NaN: scaling would only hide it
  const float factor = static_cast<float>(args.max_norm / (sqrt(squares) + 1e-6));
  if (!(factor < 1.0f)) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    auto* x = static_cast<decltype(type)>(args.x.data);
    parallel(ceil_div(args.x.size, kPerTask), [&](int64_t task) {
      auto* at = x + task * kPerTask;
      for_vectors(min64(kPerTask, args.x.size - task * kPerTask),
                  [&](int64_t i, int64_t count) { store_upto(at + i, load_upto(at + i, count) * factor, count); });
    });
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
