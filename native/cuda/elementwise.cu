// Elementwise ops on CUDA; see ops/elementwise.h for the maths. Memory-bound: eight elements per thread and pass, 16
// bytes per load, a loop with the grid's stride.
#include "cuda/math.h"
#include "ops/elementwise.h"

namespace birkhoff::cuda {
namespace {

constexpr int kElementwiseThreads = 256;

// out[0] = f(in...): any number of inputs of one size.
template <bool Vector, class T, class F, class... In>
__global__ void __launch_bounds__(kElementwiseThreads) map_kernel(int64_t size, F f, T* out, const In*... in) {
  const int64_t step = int64_t{8} * kElementwiseThreads * gridDim.x;
  for (int64_t i = (int64_t{blockIdx.x} * kElementwiseThreads + threadIdx.x) * 8; i < size; i += step) {
    float result[8];
    f(
        result, [&](const T* p, float(&v)[8]) { load_some<Vector>(p + i, size - i, v); }, in...);
    store_some<Vector>(out + i, size - i, result);
  }
}

// Lifts a function of floats to eight of them.
template <class F>
struct Lift {
  F f;
  template <class Load, class T>
  __device__ void operator()(float (&out)[8], const Load& load, const T* a) const {
    float x[8];
    load(a, x);
#pragma unroll
    for (int k = 0; k < 8; ++k) out[k] = f(x[k]);
  }
  template <class Load, class T>
  __device__ void operator()(float (&out)[8], const Load& load, const T* a, const T* b) const {
    float x[8], y[8];
    load(a, x), load(b, y);
#pragma unroll
    for (int k = 0; k < 8; ++k) out[k] = f(x[k], y[k]);
  }
  template <class Load, class T>
  __device__ void operator()(float (&out)[8], const Load& load, const T* a, const T* b, const T* c) const {
    float x[8], y[8], z[8];
    load(a, x), load(b, y), load(c, z);
#pragma unroll
    for (int k = 0; k < 8; ++k) out[k] = f(x[k], y[k], z[k]);
  }
};

template <class F, class... V>
void map(const F& f, const View& out, const V&... in) {
  if (out.size == 0) return;
  with_float_type(out.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(out.size % 8 == 0 && aligned16(out, in...), [&](auto vector) {
      launch(map_kernel<vector(), T, Lift<F>, std::enable_if_t<true || sizeof(V), T>...>,
             grid_for(out.size, 8 * kElementwiseThreads), kElementwiseThreads, 0, out.size, Lift<F>{f}, out.as<T>(),
             static_cast<const T*>(in.data)...);
    });
  });
}

// out = f(a, b) where b repeats with its own length.
template <class T, class F>
__global__ void __launch_bounds__(kElementwiseThreads)
    repeat_kernel(int64_t size, int64_t period, F f, const T* a, const T* b, T* out) {
  const int64_t step = int64_t{kElementwiseThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kElementwiseThreads + threadIdx.x; i < size; i += step)
    from_float(f(to_float(a[i]), to_float(b[i % period])), out[i]);
}

template <class F>
void binary(const BinaryArgs& args, const F& f) {
  if (args.a.size == args.b.size) return map(f, args.out, args.a, args.b);
  if (args.a.size == 0) return;
  with_float_type(args.a.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(repeat_kernel<T, F>, grid_for(args.a.size, kElementwiseThreads), kElementwiseThreads, 0, args.a.size,
           args.b.size, f, static_cast<const T*>(args.a.as<T>()), static_cast<const T*>(args.b.as<T>()),
           args.out.as<T>());
  });
}

struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Product {
  __device__ float operator()(float a, float b) const { return a * b; }
};
struct Scale {
  float factor;
  __device__ float operator()(float x) const { return x * factor; }
};
struct Silu {
  __device__ float operator()(float x) const { return silu_value(x); }
};
struct SiluSlope {
  __device__ float operator()(float x, float dy) const { return dy * silu_slope(x); }
};
struct Gelu {
  __device__ float operator()(float x) const { return gelu_value(x); }
};
struct GeluSlope {
  __device__ float operator()(float x, float dy) const { return dy * gelu_slope(x); }
};
struct Swiglu {
  __device__ float operator()(float gate, float up) const { return silu_value(gate) * up; }
};
struct SwigluGate {
  __device__ float operator()(float gate, float up, float dy) const { return dy * up * silu_slope(gate); }
};
struct SwigluUp {
  __device__ float operator()(float gate, float dy) const { return dy * silu_value(gate); }
};

}  // namespace

void add(const AddArgs& args) {
  binary(args, Sum{});
}
void mul(const MulArgs& args) {
  binary(args, Product{});
}
void scale(const ScaleArgs& args) {
  map(Scale{static_cast<float>(args.factor)}, args.out, args.x);
}
void silu_forward(const SiluForwardArgs& args) {
  map(Silu{}, args.out, args.x);
}
void silu_backward(const SiluBackwardArgs& args) {
  map(SiluSlope{}, args.grad_x, args.x, args.grad_out);
}
void gelu_forward(const GeluForwardArgs& args) {
  map(Gelu{}, args.out, args.x);
}
void gelu_backward(const GeluBackwardArgs& args) {
  map(GeluSlope{}, args.grad_x, args.x, args.grad_out);
}
void swiglu_forward(const SwigluForwardArgs& args) {
  map(Swiglu{}, args.out, args.gate, args.up);
}
void swiglu_backward(const SwigluBackwardArgs& args) {
  if (args.grad_gate) map(SwigluGate{}, args.grad_gate, args.gate, args.up, args.grad_out);
  if (args.grad_up) map(SwigluUp{}, args.grad_up, args.gate, args.grad_out);
}

}  // namespace birkhoff::cuda
