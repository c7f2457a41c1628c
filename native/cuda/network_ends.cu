// expand and contract on CUDA: h is read or written once per token; see ops/network_ends.h.
#include "cuda/math.h"
#include "ops/network_ends.h"

namespace birkhoff::cuda {
namespace {

constexpr int kNetworkEndsThreads = 256;

// Elements of h per thread and pass: eight never leave their token, as C is a multiple of eight then.
template <bool Vector>
constexpr int kWidth = Vector ? 8 : 1;

// x_ic = scale * h_c
template <bool Vector, class T>
__global__ void __launch_bounds__(kNetworkEndsThreads)
    expand_kernel(const T* h, T* x, int64_t size, int64_t n, int64_t channels, float scale) {
  const int64_t step = int64_t{kWidth<Vector>} * kNetworkEndsThreads * gridDim.x;
  for (int64_t at = (int64_t{blockIdx.x} * kNetworkEndsThreads + threadIdx.x) * kWidth<Vector>; at < size; at += step) {
    T* out = x + at / channels * n * channels + at % channels;
    float v[8];
    load_some<Vector>(h + at, kWidth<Vector>, v);
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = scale * v[k];
    for (int64_t i = 0; i < n; ++i) store_some<Vector>(out + i * channels, kWidth<Vector>, v);
  }
}

// h_c = scale * sum_i x_ic, in the order of the streams
template <bool Vector, class T>
__global__ void __launch_bounds__(kNetworkEndsThreads)
    contract_kernel(const T* x, T* h, int64_t size, int64_t n, int64_t channels, float scale) {
  const int64_t step = int64_t{kWidth<Vector>} * kNetworkEndsThreads * gridDim.x;
  for (int64_t at = (int64_t{blockIdx.x} * kNetworkEndsThreads + threadIdx.x) * kWidth<Vector>; at < size; at += step) {
    const T* from = x + at / channels * n * channels + at % channels;
    float sum[8] = {};
#pragma unroll 4
    for (int64_t i = 0; i < n; ++i) {
      float v[8];
      load_some<Vector>(from + i * channels, kWidth<Vector>, v);
#pragma unroll
      for (int k = 0; k < 8; ++k) sum[k] += v[k];
    }
#pragma unroll
    for (int k = 0; k < 8; ++k) sum[k] = scale * sum[k];
    store_some<Vector>(h + at, kWidth<Vector>, sum);
  }
}

template <class F>
void over_hidden(const NetworkEndArgs& args, const F& start) {
  const int64_t size = args.h.size;
  if (size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) {
    with_bool(args.channels % 8 == 0 && aligned16(args.h, args.x), [&](auto vector) {
      start(type, vector, grid_for(size, int64_t{kWidth<vector()>} * kNetworkEndsThreads));
    });
  });
}

}  // namespace

void expand(const NetworkEndArgs& args) {
  over_hidden(args, [&](auto* type, auto vector, unsigned blocks) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(expand_kernel<vector(), T>, blocks, kNetworkEndsThreads, 0, args.h.as<T>(), args.x.as<T>(), args.h.size,
           args.n, args.channels, static_cast<float>(args.scale));
  });
}

void contract(const NetworkEndArgs& args) {
  over_hidden(args, [&](auto* type, auto vector, unsigned blocks) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(contract_kernel<vector(), T>, blocks, kNetworkEndsThreads, 0, args.x.as<T>(), args.h.as<T>(), args.h.size,
           args.n, args.channels, static_cast<float>(args.scale));
  });
}

}  // namespace birkhoff::cuda
