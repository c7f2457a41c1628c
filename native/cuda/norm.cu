// RMSNorm and LayerNorm on CUDA; see ops/norm.h. Forward and dx: a block per row. dweight and dbias: a thread per
// column walks through one of at most 32 pieces of the rows, then the pieces are added in order.
#include "cuda/rows.h"
#include "ops/norm.h"

namespace birkhoff::cuda {
namespace {

// A parameter of either dtype; absent: `absent`.
struct Parameter {
  const void* data;
  bool bf16;

  explicit Parameter(const View& view) : data(view.data), bf16(view.dtype == DType::kBFloat16) {}
  __device__ float at(int64_t c, float absent) const {
    if (!data) return absent;
    return bf16 ? to_float(static_cast<const bfloat16*>(data)[c]) : static_cast<const float*>(data)[c];
  }
};

template <bool Centre, bool Vector, class T>
__global__ void __launch_bounds__(256)
    norm_forward_kernel(const T* x, T* y, const Parameter weight, const Parameter bias, float* means, float* inverses,
                        int64_t C, float eps) {
  BIRKHOFF_SHARED(float, scratch, [8]);
  x += blockIdx.x * C, y += blockIdx.x * C;
  float mean = 0.0f;
  if constexpr (Centre) {
    float sum = 0.0f;
    for_row(C, [&](int64_t c, int64_t count) {
      float v[8];
      load_some<Vector>(x + c, count, v);
#pragma unroll
      for (int k = 0; k < 8; ++k) sum += v[k];
    });
    mean = sum_block(sum, scratch) / static_cast<float>(C);
  }
  float squares = 0.0f;
  for_row(C, [&](int64_t c, int64_t count) {
    float v[8];
    load_some<Vector>(x + c, count, v);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      const float centred = k < count ? v[k] - mean : 0.0f;
      squares = vfma(centred, centred, squares);
    }
  });
  const float inverse = 1.0f / sqrtf(sum_block(squares, scratch) / static_cast<float>(C) + eps);
  if (threadIdx.x == 0) {
    inverses[blockIdx.x] = inverse;
    if (Centre) means[blockIdx.x] = mean;
  }
  for_row(C, [&](int64_t c, int64_t count) {
    float v[8];
    load_some<Vector>(x + c, count, v);
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (k < count) {
        v[k] = (v[k] - mean) * inverse * weight.at(c + k, 1.0f);
        if (bias.data) v[k] += bias.at(c + k, 0.0f);
      }
    store_some<Vector>(y + c, count, v);
  });
}

template <bool Centre, bool Vector, class T>
__global__ void __launch_bounds__(256) norm_backward_kernel(const T* x, const T* dy, T* dx, const Parameter weight,
                                                            const float* means, const float* inverses, int64_t C) {
  BIRKHOFF_SHARED(float, scratch, [8]);
  x += blockIdx.x * C, dy += blockIdx.x * C, dx += blockIdx.x * C;
  const float mean = Centre ? means[blockIdx.x] : 0.0f, inverse = inverses[blockIdx.x];
  float dot = 0.0f, sum = 0.0f;
  for_row(C, [&](int64_t c, int64_t count) {
    float v[8], g[8];
    load_some<Vector>(x + c, count, v), load_some<Vector>(dy + c, count, g);
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (k < count) {
        const float h = g[k] * weight.at(c + k, 1.0f);
        dot = vfma(h, (v[k] - mean) * inverse, dot);
        sum += h;
      }
  });
  const float mean_dot = sum_block(dot, scratch) / static_cast<float>(C);
  const float mean_h = Centre ? sum_block(sum, scratch) / static_cast<float>(C) : 0.0f;
  for_row(C, [&](int64_t c, int64_t count) {
    float v[8], g[8];
    load_some<Vector>(x + c, count, v), load_some<Vector>(dy + c, count, g);
#pragma unroll
    for (int k = 0; k < 8; ++k)
      if (k < count) {
        const float hat = (v[k] - mean) * inverse, h = g[k] * weight.at(c + k, 1.0f) - mean_h;
        v[k] = (h - hat * mean_dot) * inverse;
      }
    store_some<Vector>(dx + c, count, v);
  });
}

// partial: [pieces][dweight, dbias][C]
template <class T>
__global__ void __launch_bounds__(256)
    parameter_sums_kernel(const T* x, const T* dy, const float* means, const float* inverses, int64_t rows,
                          int64_t rows_per_piece, int64_t C, float* partial) {
  const int64_t c = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (c >= C) return;
  const int64_t first = blockIdx.y * rows_per_piece;
  const int64_t end = first + rows_per_piece < rows ? first + rows_per_piece : rows;
  float weight = 0.0f, bias = 0.0f;
  for (int64_t row = first; row < end; ++row) {
    const float g = to_float(dy[row * C + c]), mean = means ? means[row] : 0.0f;
    weight = vfma(g, (to_float(x[row * C + c]) - mean) * inverses[row], weight);
    bias += g;
  }
  partial[(2 * blockIdx.y) * C + c] = weight;
  partial[(2 * blockIdx.y + 1) * C + c] = bias;
}

template <class T>
__global__ void __launch_bounds__(256) fold_parameter_kernel(const float* partial, int64_t pieces, int64_t C, T* out) {
  const int64_t c = int64_t{blockIdx.x} * 256 + threadIdx.x;
  if (c >= C) return;
  float sum = 0.0f;
  for (int64_t piece = 0; piece < pieces; ++piece) sum += partial[2 * piece * C + c];
  from_float(sum, out[c]);
}

template <bool Centre>
void forward(const NormForwardArgs& args) {
  if (args.rows == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.channels % 8 == 0 && aligned16(args.x, args.y), [&](auto vector) {
      launch(norm_forward_kernel<Centre, vector(), T>, static_cast<unsigned>(args.rows), row_threads(args.channels), 0,
             args.x.as<T>(), args.y.as<T>(), Parameter(args.weight), Parameter(args.bias), args.mean.f32(),
             args.inverse.f32(), args.channels, static_cast<float>(args.eps));
    });
  });
}

template <bool Centre>
void backward(const NormBackwardArgs& args) {
  float* const partial = static_cast<float*>(args.scratch);
  const int64_t per_piece = norm_rows_per_piece(args.rows), C = args.channels;
  const int64_t pieces = per_piece ? ceil_div(args.rows, per_piece) : 0;
  const auto columns = static_cast<unsigned>(ceil_div(C, 256));
  if (C == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (args.grad_x && args.rows > 0)
      with_bool(C % 8 == 0 && aligned16(args.x, args.grad_y, args.grad_x), [&](auto vector) {
        launch(norm_backward_kernel<Centre, vector(), T>, static_cast<unsigned>(args.rows), row_threads(C), 0,
               args.x.as<T>(), args.grad_y.as<T>(), args.grad_x.as<T>(), Parameter(args.weight), args.mean.f32(),
               args.inverse.f32(), C);
      });
    if ((args.grad_weight || args.grad_bias) && pieces > 0)
      launch(parameter_sums_kernel<T>, dim3(columns, static_cast<unsigned>(pieces)), 256, 0, args.x.as<T>(),
             args.grad_y.as<T>(), args.mean.f32(), args.inverse.f32(), args.rows, per_piece, C, partial);
  });
  const auto fold = [&](const View& target, const float* from) {
    if (target)
      with_float_type(target.dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        launch(fold_parameter_kernel<T>, columns, 256, 0, from, pieces, C, target.as<T>());
      });
  };
  fold(args.grad_weight, partial);
  fold(args.grad_bias, partial + C);
}

}  // namespace

void rms_norm_forward(const RmsNormForwardArgs& args) {
  forward<false>(args);
}
void rms_norm_backward(const RmsNormBackwardArgs& args) {
  backward<false>(args);
}
void layer_norm_forward(const LayerNormForwardArgs& args) {
  forward<true>(args);
}
void layer_norm_backward(const LayerNormBackwardArgs& args) {
  backward<true>(args);
}

}  // namespace birkhoff::cuda
