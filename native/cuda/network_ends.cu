// expand and contract on CUDA; see ops/network_ends.h. Eight channels of one token per thread and pass.
#include "cuda/math.h"
#include "ops/network_ends.h"

namespace birkhoff::cuda {
namespace {

constexpr int kThreads = 256;

template <bool Expand, bool Vector, class T>
__global__ void __launch_bounds__(kThreads)
    network_end_kernel(T* h, T* x, int64_t tokens, int64_t n, int64_t C, float scale) {
  const int64_t groups = (C + 7) / 8, step = int64_t{kThreads} * gridDim.x;
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < tokens * groups; at += step) {
    const int64_t t = at / groups, c = at % groups * 8;
    float v[8] = {};
    if constexpr (Expand) {
      load_some<Vector>(h + t * C + c, C - c, v);
#pragma unroll
      for (int k = 0; k < 8; ++k) v[k] = scale * v[k];
      for (int64_t i = 0; i < n; ++i) store_some<Vector>(x + (t * n + i) * C + c, C - c, v);
    } else {
      for (int64_t i = 0; i < n; ++i) {
        float stream[8];
        load_some<Vector>(x + (t * n + i) * C + c, C - c, stream);
#pragma unroll
        for (int k = 0; k < 8; ++k) v[k] = v[k] + stream[k];
      }
#pragma unroll
      for (int k = 0; k < 8; ++k) v[k] = scale * v[k];
      store_some<Vector>(h + t * C + c, C - c, v);
    }
  }
}

template <bool Expand>
void run(const NetworkEndArgs& args) {
  if (args.h.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.channels % 8 == 0 && aligned16(args.h, args.x), [&](auto vector) {
      launch(network_end_kernel<Expand, vector(), T>, grid_for(args.tokens * ceil_div(args.channels, 8), kThreads),
             kThreads, 0, args.h.as<T>(), args.x.as<T>(), args.tokens, args.n, args.channels,
             static_cast<float>(args.scale));
    });
  });
}

}  // namespace

void expand(const NetworkEndArgs& args) {
  run<true>(args);
}
void contract(const NetworkEndArgs& args) {
  run<false>(args);
}

}  // namespace birkhoff::cuda
