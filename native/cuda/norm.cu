// RMSNorm and LayerNorm on CUDA; see ops/norm.h for shapes and equations.
//
// Forward: a block per row, which stays in the first-level cache between its reads. Backward: a block takes a piece of
// the rows and adds up dweight and dbias on chip while it makes dx, so that x and dy come from memory once; each thread
// adds to columns of its own, row after row.
#include "cuda/rows.h"
#include "ops/norm.h"

namespace birkhoff::cuda {
namespace {

// weight or bias, of either dtype; absent: data is null.
struct Parameter {
  const void* data;
  bool narrow;

  explicit Parameter(const View& view) : data(view.data), narrow(view.dtype == DType::kBFloat16) {}

  template <bool Vector>
  __device__ __forceinline__ void load(int64_t c, int64_t count, float (&v)[8]) const {
    if (narrow)
      load_some<Vector>(static_cast<const bfloat16*>(data) + c, count, v);
    else
      load_some<Vector>(static_cast<const float*>(data) + c, count, v);
  }
};

// mean is null for RMSNorm.
template <bool Vector, class T>
__global__ void __launch_bounds__(kRowThreads)
    norm_forward_kernel(const T* x, const Parameter weight, const Parameter bias, T* y, float* mean, float* inverse,
                        int64_t rows, int64_t channels, float eps) {
  BIRKHOFF_SHARED(float, scratch, [kRowThreads / 32]);
  const float size = static_cast<float>(channels);
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* from = x + row * channels;
    float centre = 0.0f;
    if (mean) {
      float sum = 0.0f;
      for_groups(channels, [&](int64_t c, int64_t count) {
        float v[8];
        load_some<Vector>(from + c, count, v);
#pragma unroll
        for (int k = 0; k < 8; ++k) sum += v[k];
      });
      centre = sum_block(sum, scratch) / size;
    }
    float squares = 0.0f;
    for_groups(channels, [&](int64_t c, int64_t count) {
      float v[8];
      load_some<Vector>(from + c, count, v);
#pragma unroll
      for (int k = 0; k < 8; ++k)
        if (inside<Vector>(k, count)) squares += (v[k] - centre) * (v[k] - centre);
    });
    const float r = 1.0f / vsqrt(sum_block(squares, scratch) / size + eps);
    if (threadIdx.x == 0) {
      inverse[row] = r;
      if (mean) mean[row] = centre;
    }
    for_groups(channels, [&](int64_t c, int64_t count) {
      float v[8], parameter[8];
      load_some<Vector>(from + c, count, v);
#pragma unroll
      for (int k = 0; k < 8; ++k) v[k] = (v[k] - centre) * r;
      if (weight.data) {
        weight.load<Vector>(c, count, parameter);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[k] *= parameter[k];
      }
      if (bias.data) {
        bias.load<Vector>(c, count, parameter);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[k] += parameter[k];
      }
      store_some<Vector>(y + row * channels + c, count, v);
    });
  }
}

struct RowSums {
  float* partial;     // [pieces, 2, channels]: dweight, dbias
  bool weight, bias;  // which are wanted
  bool on_chip;       // they fit into shared memory, else they are added up in place
};

template <bool Vector>
__device__ __forceinline__ void add_to(float* sums, int64_t count, const float (&v)[8]) {
  float sum[8];
  load_some<Vector>(sums, count, sum);
#pragma unroll
  for (int k = 0; k < 8; ++k) sum[k] += v[k];
  store_some<Vector>(sums, count, sum);
}

template <bool Vector, class T>
__global__ void __launch_bounds__(kRowThreads)
    norm_backward_kernel(const T* x, const Parameter weight, const T* dy, const float* mean, const float* inverse,
                         T* dx, const RowSums sums, int64_t rows, int64_t rows_per_piece, int64_t channels) {
  BIRKHOFF_SHARED(float, scratch, [kRowThreads / 32]);
  BIRKHOFF_DYNAMIC_SHARED(float, on_chip);
  const float size = static_cast<float>(channels);
  float* const partial = sums.partial + int64_t{blockIdx.x} * 2 * channels;
  float* const dweight = sums.on_chip ? on_chip : partial;
  float* const dbias = dweight + channels;
  const float zeros[8] = {};
  for_groups(channels, [&](int64_t c, int64_t count) {
    if (sums.weight) store_some<Vector>(dweight + c, count, zeros);
    if (sums.bias) store_some<Vector>(dbias + c, count, zeros);
  });

  const int64_t first = int64_t{blockIdx.x} * rows_per_piece;
  const int64_t last = first + rows_per_piece < rows ? first + rows_per_piece : rows;
  for (int64_t row = first; row < last; ++row) {
    const int64_t at = row * channels;
    const float centre = mean ? mean[row] : 0.0f, r = inverse[row];
    // h = dy weight and xhat of a group; both are zero past the row's end but for xhat, which only multiplies h or dy.
    const auto load_row = [&](int64_t c, int64_t count, float(&grad)[8], float(&h)[8], float(&hat)[8]) {
      load_some<Vector>(x + at + c, count, hat);
      load_some<Vector>(dy + at + c, count, grad);
#pragma unroll
      for (int k = 0; k < 8; ++k) hat[k] = (hat[k] - centre) * r;
#pragma unroll
      for (int k = 0; k < 8; ++k) h[k] = grad[k];
      if (weight.data) {
        float w[8];
        weight.load<Vector>(c, count, w);
#pragma unroll
        for (int k = 0; k < 8; ++k) h[k] = grad[k] * w[k];
      }
    };
    float mean_dot = 0.0f, mean_h = 0.0f;
    if (dx) {
      float dot = 0.0f, sum = 0.0f;
      for_groups(channels, [&](int64_t c, int64_t count) {
        float grad[8], h[8], hat[8];
        load_row(c, count, grad, h, hat);
#pragma unroll
        for (int k = 0; k < 8; ++k) dot += h[k] * hat[k], sum += h[k];
      });
      mean_dot = sum_block(dot, scratch) / size;
      if (mean) mean_h = sum_block(sum, scratch) / size;
    }
    for_groups(channels, [&](int64_t c, int64_t count) {
      float grad[8], h[8], hat[8];
      load_row(c, count, grad, h, hat);
      if (sums.bias) add_to<Vector>(dbias + c, count, grad);
      if (sums.weight) {
#pragma unroll
        for (int k = 0; k < 8; ++k) grad[k] *= hat[k];
        add_to<Vector>(dweight + c, count, grad);
      }
      if (!dx) return;
#pragma unroll
      for (int k = 0; k < 8; ++k) h[k] = (h[k] - mean_h - hat[k] * mean_dot) * r;
      store_some<Vector>(dx + at + c, count, h);
    });
  }

  if (!sums.on_chip) return;
  for_groups(channels, [&](int64_t c, int64_t count) {
    float v[8];
    if (sums.weight) load_some<Vector>(dweight + c, count, v), store_some<Vector>(partial + c, count, v);
    if (sums.bias) load_some<Vector>(dbias + c, count, v), store_some<Vector>(partial + channels + c, count, v);
  });
}

// out_c = sum of the pieces: each of sixteen threads takes every sixteenth, then their sums are added in order.
constexpr int kFoldColumns = 32, kFoldRows = 16;

template <class T>
__global__ void __launch_bounds__(kFoldColumns* kFoldRows)
    norm_fold_kernel(const float* partial, int64_t pieces, int64_t channels, T* out) {
  BIRKHOFF_SHARED(float, sums, [kFoldRows][kFoldColumns]);
  const int64_t c = int64_t{blockIdx.x} * kFoldColumns + threadIdx.x;
  float sum = 0.0f;
  if (c < channels) {
#pragma unroll 4
    for (int64_t piece = threadIdx.y; piece < pieces; piece += kFoldRows) sum += partial[piece * 2 * channels + c];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= channels) return;
#pragma unroll
  for (int row = 1; row < kFoldRows; ++row) sum += sums[row][threadIdx.x];
  from_float(sum, out[c]);
}

void fold(const float* partial, int64_t pieces, int64_t channels, const View& out) {
  if (!out || channels == 0) return;
  with_float_type(out.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(norm_fold_kernel<T>, static_cast<unsigned>(ceil_div(channels, kFoldColumns)), dim3(kFoldColumns, kFoldRows),
           0, partial, pieces, channels, out.as<T>());
  });
}

void forward(const NormForwardArgs& args) {
  if (args.x.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.channels % 8 == 0 && aligned16(args.x, args.y, args.weight, args.bias), [&](auto vector) {
      launch(norm_forward_kernel<vector(), T>, row_blocks(args.rows), threads_per_token(args.channels), 0,
             args.x.as<T>(), Parameter(args.weight), Parameter(args.bias), args.y.as<T>(), args.mean.f32(),
             args.inverse.f32(), args.rows, args.channels, static_cast<float>(args.eps));
    });
  });
}

void backward(const NormBackwardArgs& args) {
  const int64_t pieces = args.cuda_pieces(), C = args.channels;
  float* const partial = static_cast<float*>(args.scratch);
  if (args.x.size > 0) {
    const int64_t bytes = args.grad_weight || args.grad_bias ? 2 * C * int64_t{sizeof(float)} : 0;
    const bool on_chip = bytes > 0 && bytes + 1024 <= current().max_shared;
    const size_t shared = on_chip ? static_cast<size_t>(bytes) : sizeof(float);  // not none: the kernel names it
    const RowSums sums{partial, static_cast<bool>(args.grad_weight), static_cast<bool>(args.grad_bias), on_chip};
    with_float_type(args.x.dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      with_bool(C % 8 == 0 && aligned16(args.x, args.weight, args.grad_y, args.grad_x), [&](auto vector) {
        launch(norm_backward_kernel<vector(), T>, static_cast<unsigned>(pieces), threads_per_token(C), shared,
               args.x.as<T>(), Parameter(args.weight), args.grad_y.as<T>(), args.mean.f32(), args.inverse.f32(),
               args.grad_x.as<T>(), sums, args.rows, args.cuda_rows_per_piece(), C);
      });
    });
  }
  fold(partial, pieces, C, args.grad_weight);
  fold(partial ? partial + C : nullptr, pieces, C, args.grad_bias);  // there is no scratch without rows
}

}  // namespace

void rms_norm_forward(const RmsNormForwardArgs& args) {
  forward(args);
}
void rms_norm_backward(const RmsNormBackwardArgs& args) {
  backward(args);
}
void layer_norm_forward(const LayerNormForwardArgs& args) {
  forward(args);
}
void layer_norm_backward(const LayerNormBackwardArgs& args) {
  backward(args);
}

}  // namespace birkhoff::cuda
