// mhcPost on CPU: forward mixes a vector of columns of all streams at once; backward ("prepare") takes all products of
// a token while its columns are in L1.
#include "cpu/kernels.h"
#include "cpu/streams.h"
#include "cpu/tokens.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int64_t kTokensPerTask = 8;
constexpr int64_t kColumns = 512;  // per pass: dy, x and f of a token stay in L1

template <int n, bool Streaming, class T>
void forward(const MhcPostForwardArgs& args) {
  const int64_t C = args.channels;
  parallel(ceil_div(args.tokens, kTokensPerTask), [&](int64_t task) {
    const int64_t end = min64(args.tokens, (task + 1) * kTokensPerTask);
    for (int64_t t = task * kTokensPerTask; t < end; ++t) {
      const T* x = args.x.as<T>() + t * n * C;
      const T* f = args.output.as<T>() + t * C;
      T* y = args.y.as<T>() + t * n * C;
      vf post[n], res[n * n];
      for (int i = 0; i < n; ++i) post[i] = broadcast(args.post.f32()[t * n + i]);
      for (int k = 0; k < n * n; ++k) res[k] = broadcast(args.res.f32()[t * n * n + k]);
      for (int64_t c = 0; c < C; c += W) {
        const int64_t count = min64(W, C - c);
        vf xv[n];
#pragma GCC unroll 8
        for (int j = 0; j < n; ++j) xv[j] = count == W ? load(x + j * C + c) : load_partial(x + j * C + c, count);
        const vf fv = count == W ? load(f + c) : load_partial(f + c, count);
#pragma GCC unroll 8
        for (int i = 0; i < n; ++i) {
          vf sum = post[i] * fv;
#pragma GCC unroll 8
          for (int j = 0; j < n; ++j) sum = vfma(res[i * n + j], xv[j], sum);
          if (Streaming)
            store_stream(y + i * C + c, sum);
          else if (count == W)
            store(y + i * C + c, sum);
          else
            store_partial(y + i * C + c, sum, count);
        }
      }
    }
  });
}

// Adds to the products of Rows rows of dy with f and all x_j.
template <int n, int Rows, class T>
BIRKHOFF_INLINE void products(const T* dy, const T* x, const T* f, int64_t C, int64_t begin, int64_t end, vf* with_f,
                              vf* with_x) {
  vf sum_f[Rows], sum_x[Rows][n];
#pragma GCC unroll 2
  for (int i = 0; i < Rows; ++i) {
    sum_f[i] = with_f[i];
#pragma GCC unroll 8
    for (int j = 0; j < n; ++j) sum_x[i][j] = with_x[i * n + j];
  }
  for (int64_t c = begin; c < end; c += W) {
    const int64_t count = min64(W, C - c);
    vf d[Rows];
#pragma GCC unroll 2
    for (int i = 0; i < Rows; ++i) d[i] = count == W ? load(dy + i * C + c) : load_partial(dy + i * C + c, count);
    const vf fv = count == W ? load(f + c) : load_partial(f + c, count);
#pragma GCC unroll 2
    for (int i = 0; i < Rows; ++i) sum_f[i] = vfma(d[i], fv, sum_f[i]);
#pragma GCC unroll 8
    for (int j = 0; j < n; ++j) {
      const vf xv = count == W ? load(x + j * C + c) : load_partial(x + j * C + c, count);
#pragma GCC unroll 2
      for (int i = 0; i < Rows; ++i) sum_x[i][j] = vfma(d[i], xv, sum_x[i][j]);
    }
  }
#pragma GCC unroll 2
  for (int i = 0; i < Rows; ++i) {
    with_f[i] = sum_f[i];
#pragma GCC unroll 8
    for (int j = 0; j < n; ++j) with_x[i * n + j] = sum_x[i][j];
  }
}

// out_c = sum_i weight[i * stride] dy_ic over a range of columns.
template <int n, class T>
BIRKHOFF_INLINE void mix(const T* dy, const float* weights, int stride, int64_t C, int64_t begin, int64_t end, T* out) {
  vf weight[n];
#pragma GCC unroll 8
  for (int i = 0; i < n; ++i) weight[i] = broadcast(weights[i * stride]);
  for (int64_t c = begin; c < end; c += W) {
    const int64_t count = min64(W, C - c);
    vf sum;
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
      const vf d = count == W ? load(dy + i * C + c) : load_partial(dy + i * C + c, count);
      sum = i == 0 ? weight[0] * d : vfma(weight[i], d, sum);
    }
    if (count == W)
      store(out + c, sum);
    else
      store_partial(out + c, sum, count);
  }
}

template <int n, class T>
void backward(const MhcPostBackwardArgs& args) {
  constexpr int rows = n == 1 ? 1 : 2;  // two rows of n = 4 with their products fill the registers
  const int64_t C = args.channels;
  parallel(ceil_div(args.tokens, kTokensPerTask), [&](int64_t task) {
    const int64_t end = min64(args.tokens, (task + 1) * kTokensPerTask);
    for (int64_t t = task * kTokensPerTask; t < end; ++t) {
      const T* x = args.x.as<T>() + t * n * C;
      const T* f = args.output.as<T>() + t * C;
      const T* dy = args.grad_y.as<T>() + t * n * C;
      const float* post = args.post.f32() + t * n;
      const float* res = args.res.f32() + t * n * n;
      vf with_f[n] = {}, with_x[n * n] = {};
      for (int64_t c = 0; c < C; c += kColumns) {
        const int64_t stop = min64(C, c + kColumns);
        for (int i = 0; i < n; i += rows) products<n, rows>(dy + i * C, x, f, C, c, stop, with_f + i, with_x + i * n);
        mix<n>(dy, post, 1, C, c, stop, args.grad_output.as<T>() + t * C);
        if (args.grad_x)
          for (int j = 0; j < n; ++j) mix<n>(dy, res + j, n, C, c, stop, args.grad_x.as<T>() + (t * n + j) * C);
      }
      for (int i = 0; i < n; ++i) args.grad_post.f32()[t * n + i] = sum_lanes(with_f[i]);
      for (int k = 0; k < n * n; ++k) args.grad_res.f32()[t * n * n + k] = sum_lanes(with_x[k]);
    }
  });
}

}  // namespace

void mhc_post_forward(const MhcPostForwardArgs& args) {
  with_streams(args.n, [&](auto n) {
    with_float_type(args.x.dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      if (args.y.dtype == DType::kFloat32 && streams_past_caches(args.y.data, args.channels, args.y.size * 4))
        forward<n(), true, T>(args);
      else
        forward<n(), false, T>(args);
    });
  });
}

void mhc_post_backward(const MhcPostBackwardArgs& args) {
  with_streams(args.n, [&](auto n) {
    with_float_type(args.x.dtype, [&](auto* type) { backward<n(), std::remove_pointer_t<decltype(type)>>(args); });
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
