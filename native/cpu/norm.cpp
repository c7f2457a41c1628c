// RMSNorm and LayerNorm on CPU; see ops/norm.h for shapes and equations.
#include <type_traits>

#include "cpu/kernels.h"
#include "cpu/vectors.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

// A parameter of either dtype as float32, in scratch; null stays null.
const float* widened(const View& parameter, float* scratch, int64_t channels) {
  if (!parameter) return nullptr;
  if (parameter.dtype == DType::kFloat32) return parameter.f32();
  const bfloat16* source = parameter.bf16();
  for (int64_t c = 0; c < channels; ++c) scratch[c] = to_float(source[c]);
  return scratch;
}

template <class T, bool Centre>
BIRKHOFF_INLINE void normalise_row(const T* x, T* y, const float* weight, const float* bias, int64_t channels,
                                   float eps, float* mean_out, float* inverse_out) {
  const float size = static_cast<float>(channels);
  float mean = 0.0f;
  if (Centre) {
    const float total =
        sum_vectors(channels, [&](int64_t c, auto count) BIRKHOFF_VECTOR_BODY { return load_some(x + c, count); });
    mean = total / size;
    *mean_out = mean;
  }
  const vf centre = broadcast(mean);
  const float squares = sum_vectors(channels, [&](int64_t c, auto count) BIRKHOFF_VECTOR_BODY {
    const vf v = load_some(x + c, count) - centre;
    return only_some(v * v, count);
  });
  const float inverse = 1.0f / __builtin_sqrtf(squares / size + eps);
  *inverse_out = inverse;
  for_vectors(0, channels, [&](int64_t c, auto count) BIRKHOFF_VECTOR_BODY {
    vf v = (load_some(x + c, count) - centre) * inverse;
    if (weight) v *= load_some(weight + c, count);
    if (bias) v += load_some(bias + c, count);
    store_some(y + c, v, count);
  });
}

template <bool Centre>
BIRKHOFF_INLINE void forward(const NormForwardArgs& args) {
  const int64_t channels = args.channels;
  if (args.rows == 0) return;
  float* scratch = static_cast<float*>(args.scratch);
  const float* weight = widened(args.weight, scratch, channels);
  const float* bias = widened(args.bias, scratch + channels, channels);
  const int64_t rows_per_task = max64(1, kElementsPerTask / max64(1, channels));
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = decltype(type);
    const T x = static_cast<T>(args.x.data), y = static_cast<T>(args.y.data);
    parallel(ceil_div(args.rows, rows_per_task), [&](int64_t task) {
      const int64_t end = min64(args.rows, (task + 1) * rows_per_task);
      for (int64_t row = task * rows_per_task; row < end; ++row)
        normalise_row<std::remove_pointer_t<T>, Centre>(
            x + row * channels, y + row * channels, weight, bias, channels, static_cast<float>(args.eps),
            Centre ? args.mean.f32() + row : nullptr, args.inverse.f32() + row);
    });
  });
}

// grad_x of one row, and its share of the parameters' sums (null where not wanted).
template <class T, bool Centre>
BIRKHOFF_INLINE void backward_row(const T* x, const T* dy, T* dx, const float* weight, float mean, float inverse,
                                  float* dweight, float* dbias, int64_t channels) {
  const vf centre = broadcast(mean);
  const auto hat = [&](int64_t c, auto count)
                       BIRKHOFF_VECTOR_BODY { return (load_some(x + c, count) - centre) * inverse; };
  const auto h = [&](int64_t c, auto count) BIRKHOFF_VECTOR_BODY {
    const vf g = load_some(dy + c, count);
    return weight ? g * load_some(weight + c, count) : g;
  };
  if (dx) {
    const float size = static_cast<float>(channels);
    // h is zero in the lanes past the tail, so the product is too.
    const float dot =
        sum_vectors(channels, [&](int64_t c, auto count) BIRKHOFF_VECTOR_BODY { return h(c, count) * hat(c, count); });
    const float mean_dot = dot / size;
    float mean_h = 0.0f;
    if (Centre) mean_h = sum_vectors(channels, h) / size;
    for_vectors(0, channels, [&](int64_t c, auto count) BIRKHOFF_VECTOR_BODY {
      vf v = h(c, count);
      if (Centre) v -= mean_h;
      store_some(dx + c, (v - hat(c, count) * mean_dot) * inverse, count);
    });
  }
  if (dweight)
    for_vectors(0, channels, [&](int64_t c, auto count) BIRKHOFF_VECTOR_BODY {
      store_some(dweight + c, load_some(dweight + c, count) + load_some(dy + c, count) * hat(c, count), count);
    });
  if (dbias)
    for_vectors(0, channels, [&](int64_t c, auto count) BIRKHOFF_VECTOR_BODY {
      store_some(dbias + c, load_some(dbias + c, count) + load_some(dy + c, count), count);
    });
}

// Adds the pieces in order and stores in the parameter's dtype.
void store_parameter(const View& target, const float* partial, int64_t pieces, int64_t stride, int64_t channels) {
  if (!target) return;
  with_float_type(target.dtype, [&](auto* type) {
    auto* out = static_cast<decltype(type)>(target.data);
    for_vectors(0, channels, [&](int64_t c, auto count) BIRKHOFF_VECTOR_BODY {
      vf sum{};
      for (int64_t piece = 0; piece < pieces; ++piece) sum += load_some(partial + piece * stride + c, count);
      store_some(out + c, sum, count);
    });
  });
}

template <bool Centre>
BIRKHOFF_INLINE void backward(const NormBackwardArgs& args) {
  const int64_t channels = args.channels;
  float* scratch = static_cast<float*>(args.scratch);
  const float* weight = widened(args.weight, scratch, channels);
  float* partial = scratch + channels;
  const int64_t per_piece = norm_rows_per_piece(args.rows);
  const int64_t pieces = per_piece ? ceil_div(args.rows, per_piece) : 0;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = decltype(type);
    const T x = static_cast<T>(args.x.data), dy = static_cast<T>(args.grad_y.data),
            dx = static_cast<T>(args.grad_x.data);
    parallel(pieces, [&](int64_t piece) {
      float* dweight = args.grad_weight ? partial + 2 * piece * channels : nullptr;
      float* dbias = args.grad_bias ? partial + (2 * piece + 1) * channels : nullptr;
      for (int64_t c = 0; dweight && c < channels; ++c) dweight[c] = 0.0f;
      for (int64_t c = 0; dbias && c < channels; ++c) dbias[c] = 0.0f;
      const int64_t end = min64(args.rows, (piece + 1) * per_piece);
      for (int64_t row = piece * per_piece; row < end; ++row) {
        const int64_t at = row * channels;
        backward_row<std::remove_pointer_t<T>, Centre>(x + at, dy + at, dx ? dx + at : nullptr, weight,
                                                       Centre ? args.mean.f32()[row] : 0.0f, args.inverse.f32()[row],
                                                       dweight, dbias, channels);
      }
    });
  });
  store_parameter(args.grad_weight, partial, pieces, 2 * channels, channels);
  store_parameter(args.grad_bias, partial + channels, pieces, 2 * channels, channels);
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

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
