// Element by element; every tensor of a call has one dtype, float32 or bfloat16, the maths is float32, each result
// rounded once.
//
//   add, mul:  out_i = a_i + b_j, a_i * b_j, j = i mod b.size: b repeats over the leading axes of a
//   scale:     out = x * factor
//   silu:      x s(x), s the logistic function           d/dx = s (1 + x (1 - s))
//   gelu:      x/2 (1 + tanh v) = x s(2v), v = sqrt(2/pi) (x + 0.044715 x^3)
//              d/dx = s + x s (1 - s) 2 sqrt(2/pi) (1 + 3 * 0.044715 x^2), s = s(2v)
//   swiglu:    silu(gate) * up
#pragma once
#include "core/checks.h"
#include "core/host_device.h"

namespace birkhoff {

inline void require_float_like(const char* op, const char* argument, const View& view, const View& model) {
  if (!view) return;
  require_float(op, argument, view);
  require_dtype(op, argument, view, model.dtype);
  require_size(op, argument, view, {model.size});
}

struct BinaryArgs {
  View a, b, out;

  template <class F>
  void fields(F&& field) {
    field("a", a), field("b", b), field("out", out);
  }
  void check_binary(const char* op) const {
    require_float(op, "a", a);
    require_float_like(op, "out", out, a);
    require_dtype(op, "b", b, a.dtype);
    if (b.size == 0 ? a.size != 0 : a.size % b.size != 0)
      throw Error(kShapeError, std::string(op) + ": a's size is not a multiple of b's");
  }
};
struct AddArgs : BinaryArgs {
  static constexpr const char* kName = "add";
  void check() const { check_binary(kName); }
};
struct MulArgs : BinaryArgs {
  static constexpr const char* kName = "mul";
  void check() const { check_binary(kName); }
};

struct ScaleArgs {
  static constexpr const char* kName = "scale";
  View x, out;
  double factor;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("out", out), field("factor", factor);
  }
  void check() const {
    require_float(kName, "x", x);
    require_float_like(kName, "out", out, x);
  }
};

struct ActivationArgs {
  View x, out;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("out", out);
  }
  void check_activation(const char* op) const {
    require_float(op, "x", x);
    require_float_like(op, "out", out, x);
  }
};
struct SiluForwardArgs : ActivationArgs {
  static constexpr const char* kName = "silu";
  void check() const { check_activation(kName); }
};
struct GeluForwardArgs : ActivationArgs {
  static constexpr const char* kName = "gelu";
  void check() const { check_activation(kName); }
};

struct ActivationBackwardArgs {
  View x, grad_out, grad_x;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("gradOut", grad_out), field("gradX", grad_x);
  }
  void check_activation(const char* op) const {
    require_float(op, "x", x);
    require_float_like(op, "gradOut", grad_out, x), require_float_like(op, "gradX", grad_x, x);
  }
};
struct SiluBackwardArgs : ActivationBackwardArgs {
  static constexpr const char* kName = "silu backward";
  void check() const { check_activation(kName); }
};
struct GeluBackwardArgs : ActivationBackwardArgs {
  static constexpr const char* kName = "gelu backward";
  void check() const { check_activation(kName); }
};

struct SwigluForwardArgs {
  static constexpr const char* kName = "swiglu";
  View gate, up, out;

  template <class F>
  void fields(F&& field) {
    field("gate", gate), field("up", up), field("out", out);
  }
  void check() const {
    require_float(kName, "gate", gate);
    require_float_like(kName, "up", up, gate), require_float_like(kName, "out", out, gate);
  }
};

struct SwigluBackwardArgs {
  static constexpr const char* kName = "swiglu backward";
  View gate, up, grad_out;
  OptionalView grad_gate, grad_up;

  template <class F>
  void fields(F&& field) {
    field("gate", gate), field("up", up), field("gradOut", grad_out);
    field("gradGate", grad_gate), field("gradUp", grad_up);
  }
  void check() const {
    require_float(kName, "gate", gate);
    require_float_like(kName, "up", up, gate), require_float_like(kName, "gradOut", grad_out, gate);
    require_float_like(kName, "gradGate", grad_gate, gate), require_float_like(kName, "gradUp", grad_up, gate);
  }
};

}  // namespace birkhoff

// Maths of one element, in the namespace of the backend that includes it. V is float or a vector.
#ifdef BIRKHOFF_MATH
namespace BIRKHOFF_MATH {

template <class V>
MHC_HD V silu_value(V x) {
  return x * vsigmoid(x);
}
template <class V>
MHC_HD V silu_slope(V x) {
  const V s = vsigmoid(x);
  // Far left s is 0 and x may be -inf: the product x (1 - s) s must stay 0 there.
  return s + vmax(x, V{} - 1e4f) * s * (1.0f - s);
}

constexpr float kGeluScale = 0.7978845608028654f;  // sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715f;

// (1 + tanh v) / 2 = s(2v), which does not cancel where tanh is near -1.
template <class V>
MHC_HD V gelu_value(V x) {
  return x * vsigmoid((2.0f * kGeluScale) * vfma(kGeluCubic * x, x * x, x));
}
template <class V>
MHC_HD V gelu_slope(V x) {
  // Beyond |x| = 16 the slope is 0 or 1 in float32; the clamp keeps x^3 finite.
  const V c = vmin(vmax(x, V{} - 16.0f), V{} + 16.0f);
  const V s = vsigmoid((2.0f * kGeluScale) * vfma(kGeluCubic * c, c * c, c));
  const V inner = (2.0f * kGeluScale) * vfma((3.0f * kGeluCubic) * c, c, V{} + 1.0f);
  return vselect(x != x, x, s + c * (s * (1.0f - s)) * inner);
}

}  // namespace BIRKHOFF_MATH
#endif
