// Matrix products of the API and the column sum on CUDA; see ops/matmul.h for the maths.
#include "cuda/cublas.h"
#include "cuda/math.h"
#include "ops/matmul.h"

namespace birkhoff::cuda {
namespace {

constexpr int kMatmulThreads = 256;

template <class T, class B>
__global__ void __launch_bounds__(kMatmulThreads)
    broadcast_bias_kernel(int64_t rows, int64_t columns, const B* bias, T* c) {
  const int64_t step = int64_t{kMatmulThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kMatmulThreads + threadIdx.x; i < rows * columns; i += step)
    from_float(to_float(bias[i % columns]), c[i]);
}

// partial[part][j] = sum of column j over the rows of a part, in their order.
template <class T>
__global__ void __launch_bounds__(kMatmulThreads)
    column_parts_kernel(int64_t rows, int64_t columns, int64_t parts, const T* x, float* partial) {
  const int64_t column = int64_t{blockIdx.x} * kMatmulThreads + threadIdx.x, part = blockIdx.y;
  if (column >= columns) return;
  float sum = 0.0f;
#pragma unroll 8
  for (int64_t row = part * rows / parts; row < (part + 1) * rows / parts; ++row)
    sum += to_float(x[row * columns + column]);
  partial[part * columns + column] = sum;
}

template <class T>
__global__ void __launch_bounds__(kMatmulThreads)
    fold_parts_kernel(int64_t columns, int64_t parts, const float* partial, T* out) {
  const int64_t column = int64_t{blockIdx.x} * kMatmulThreads + threadIdx.x;
  if (column >= columns) return;
  float sum = partial[column];
#pragma unroll 8
  for (int64_t part = 1; part < parts; ++part) sum += partial[part * columns + column];
  from_float(sum, out[column]);
}

}  // namespace

void broadcast_bias(const Gemm& g) {
  with_float_type(g.c_type, [&](auto* c) {
    with_float_type(g.bias_type, [&](auto* bias) {
      using C = std::remove_pointer_t<decltype(c)>;
      using B = std::remove_pointer_t<decltype(bias)>;
      // The matrices of matmul lie one behind the other.
      launch(broadcast_bias_kernel<C, B>, grid_for(g.batch * g.m * g.n, kMatmulThreads), kMatmulThreads, 0,
             g.batch * g.m, g.n, static_cast<const B*>(g.bias), static_cast<C*>(g.c));
    });
  });
}

void matmul(const MatmulArgs& args) {
  gemm({.a = args.a.data,
        .b = args.b.data,
        .c = args.c.data,
        .a_type = args.a.dtype,
        .b_type = args.b.dtype,
        .c_type = args.c.dtype,
        .m = args.m,
        .n = args.n,
        .k = args.k,
        .transpose_a = args.transpose_a != 0,
        .transpose_b = args.transpose_b != 0,
        .batch = args.batch,
        .a_stride = args.m * args.k,
        .b_stride = args.shared_b ? 0 : args.k * args.n,
        .c_stride = args.m * args.n,
        .bias = args.bias.data,
        .bias_type = args.bias.dtype});
}

void column_sum(const ColumnSumArgs& args) {
  const int64_t parts = args.parts(), columns = args.columns;
  if (columns == 0) return;
  const auto blocks = static_cast<unsigned>(ceil_div(columns, kMatmulThreads));
  float* const partial = static_cast<float*>(args.scratch);
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(column_parts_kernel<T>, dim3(blocks, static_cast<unsigned>(parts)), kMatmulThreads, 0, args.rows, columns,
           parts, args.x.as<T>(), partial);
  });
  with_float_type(args.out.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(fold_parts_kernel<T>, blocks, kMatmulThreads, 0, columns, parts, partial, args.out.as<T>());
  });
}

}  // namespace birkhoff::cuda
