// Elementwise ops on CPU; see ops/elementwise.h for the maths.
#include "cpu/kernels.h"
#include "cpu/vectors.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

template <class F>
BIRKHOFF_INLINE void binary(const BinaryArgs& args, const F& f) {
  const int64_t size = args.a.size, period = args.b.size;
  with_float_type(args.a.dtype, [&](auto* type) {
    using T = decltype(type);
    const T a = static_cast<T>(args.a.data), b = static_cast<T>(args.b.data), out = static_cast<T>(args.out.data);
    if (period == size) {
      parallel_vectors(size, [&](int64_t i, auto count) BIRKHOFF_VECTOR_BODY {
        store_some(out + i, f(load_some(a + i, count), load_some(b + i, count)), count);
      });
      return;
    }
    if (period == 1) {
      const vf value = broadcast(to_float(b[0]));
      parallel_vectors(size, [&](int64_t i, auto count) BIRKHOFF_VECTOR_BODY {
        store_some(out + i, f(load_some(a + i, count), value), count);
      });
      return;
    }
    parallel(ceil_div(size, kElementsPerTask), [&](int64_t task) {
      const int64_t end = min64(size, (task + 1) * kElementsPerTask);
      int64_t j = task * kElementsPerTask % period;
      for (int64_t i = task * kElementsPerTask; i < end;) {
        const int64_t run = min64(end - i, period - j);
        for_vectors(0, run, [&](int64_t k, auto count) BIRKHOFF_VECTOR_BODY {
          store_some(out + i + k, f(load_some(a + i + k, count), load_some(b + j + k, count)), count);
        });
        i += run;
        j = 0;
      }
    });
  });
}

template <class F>
BIRKHOFF_INLINE void unary(const View& x_view, const View& out_view, const F& f) {
  with_float_type(x_view.dtype, [&](auto* type) {
    using T = decltype(type);
    const T x = static_cast<T>(x_view.data), out = static_cast<T>(out_view.data);
    parallel_vectors(x_view.size, [&](int64_t i, auto count)
                                      BIRKHOFF_VECTOR_BODY { store_some(out + i, f(load_some(x + i, count)), count); });
  });
}

template <class F>
BIRKHOFF_INLINE void times_slope(const ActivationBackwardArgs& args, const F& slope) {
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = decltype(type);
    const T x = static_cast<T>(args.x.data), g = static_cast<T>(args.grad_out.data),
            out = static_cast<T>(args.grad_x.data);
    parallel_vectors(args.x.size, [&](int64_t i, auto count) BIRKHOFF_VECTOR_BODY {
      store_some(out + i, load_some(g + i, count) * slope(load_some(x + i, count)), count);
    });
  });
}

}  // namespace

void add(const AddArgs& args) {
  binary(args, [](vf a, vf b) BIRKHOFF_VECTOR_BODY { return a + b; });
}
void mul(const MulArgs& args) {
  binary(args, [](vf a, vf b) BIRKHOFF_VECTOR_BODY { return a * b; });
}
void scale(const ScaleArgs& args) {
  const vf factor = broadcast(static_cast<float>(args.factor));
  unary(args.x, args.out, [=](vf x) BIRKHOFF_VECTOR_BODY { return x * factor; });
}
void silu_forward(const SiluForwardArgs& args) {
  unary(args.x, args.out, [](vf x) BIRKHOFF_VECTOR_BODY { return silu_value(x); });
}
void silu_backward(const SiluBackwardArgs& args) {
  times_slope(args, [](vf x) BIRKHOFF_VECTOR_BODY { return silu_slope(x); });
}
void gelu_forward(const GeluForwardArgs& args) {
  unary(args.x, args.out, [](vf x) BIRKHOFF_VECTOR_BODY { return gelu_value(x); });
}
void gelu_backward(const GeluBackwardArgs& args) {
  times_slope(args, [](vf x) BIRKHOFF_VECTOR_BODY { return gelu_slope(x); });
}
void swiglu_forward(const SwigluForwardArgs& args) {
  with_float_type(args.gate.dtype, [&](auto* type) {
    using T = decltype(type);
    const T gate = static_cast<T>(args.gate.data), up = static_cast<T>(args.up.data),
            out = static_cast<T>(args.out.data);
    parallel_vectors(args.gate.size, [&](int64_t i, auto count) BIRKHOFF_VECTOR_BODY {
      store_some(out + i, silu_value(load_some(gate + i, count)) * load_some(up + i, count), count);
    });
  });
}
void swiglu_backward(const SwigluBackwardArgs& args) {
  with_float_type(args.gate.dtype, [&](auto* type) {
    using T = decltype(type);
    const T gate = static_cast<T>(args.gate.data), up = static_cast<T>(args.up.data);
    const T g = static_cast<T>(args.grad_out.data);
    const T grad_gate = static_cast<T>(args.grad_gate.data), grad_up = static_cast<T>(args.grad_up.data);
    parallel_vectors(args.gate.size, [&](int64_t i, auto count) BIRKHOFF_VECTOR_BODY {
      const vf x = load_some(gate + i, count), dy = load_some(g + i, count);
      if (grad_gate) store_some(grad_gate + i, dy * load_some(up + i, count) * silu_slope(x), count);
      if (grad_up) store_some(grad_up + i, dy * silu_value(x), count);
    });
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
