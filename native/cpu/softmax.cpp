// Softmax on CPU: a task is a group of rows; each row is read three times, while it is in the cache.
#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

template <class Body>
BIRKHOFF_INLINE void for_rows(int64_t rows, int64_t columns, const Body& body) {
  if (columns == 0) return;
  const int64_t per_task = max64(1, (1 << 14) / columns);
  parallel(ceil_div(rows, per_task), [&](int64_t task) {
    const int64_t end = min64(rows, (task + 1) * per_task);
    for (int64_t row = task * per_task; row < end; ++row) body(row * columns);
  });
}

}  // namespace

void softmax_forward(const SoftmaxForwardArgs& args) {
  const int64_t columns = args.columns;
  with_float_type(args.x.dtype, [&](auto* type) {
    for_rows(args.rows, columns, [&](int64_t at) {
      const auto* x = static_cast<decltype(type)>(args.x.data) + at;
      auto* y = static_cast<decltype(type)>(args.y.data) + at;
      const float top = row_max(x, columns);
      const float inverse = 1.0f / row_sum_exp(x, top, columns);
      for_vectors(columns, [&](int64_t i, int64_t count) {
        store_upto(y + i, vexp(load_upto(x + i, count) - top) * inverse, count);
      });
    });
  });
}

void softmax_backward(const SoftmaxBackwardArgs& args) {
  const int64_t columns = args.columns;
  with_float_type(args.y.dtype, [&](auto* type) {
    for_rows(args.rows, columns, [&](int64_t at) {
      const auto* y = static_cast<decltype(type)>(args.y.data) + at;
      const auto* grad_y = static_cast<decltype(type)>(args.grad_y.data) + at;
      auto* grad_x = static_cast<decltype(type)>(args.grad_x.data) + at;
      const float dot = row_dot(y, grad_y, columns);
      for_vectors(columns, [&](int64_t i, int64_t count) {
        store_upto(grad_x + i, load_upto(y + i, count) * (load_upto(grad_y + i, count) - dot), count);
      });
    });
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
