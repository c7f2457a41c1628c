// mhcPost on CPU: forward mixes a vector of columns of all streams at once; backward ("prepare") takes all products of
// a token while its columns are in L1.
#include "cpu/kernels.h"
#include "cpu/mhc_tiles.h"
#include "cpu/streams.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int64_t kMergedPerTask = 8;
constexpr int64_t kColumns = 512;  // per pass: dy, x and f of a token stay in L1

enum class Store { kCached, kPastCaches, kPastCachesAndCopy };

template <int n, Store how, class T>
void merge(const MhcPostForwardArgs& args, int64_t first, int64_t end, T* copy) {
  const int64_t C = args.channels;
  for (int64_t t = first; t < end; ++t) {
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
        if (how == Store::kPastCachesAndCopy) store(copy + ((t - first) * n + i) * C + c, sum);
        if (how != Store::kCached)
          store_stream(y + i * C + c, sum);
        else if (count == W)
          store(y + i * C + c, sum);
        else
          store_partial(y + i * C + c, sum, count);
      }
    }
  }
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

template <int n, class T>
void backward(const MhcPostBackwardArgs& args) {
  constexpr int rows = n == 1 ? 1 : 2;  // two rows of n = 4 with their products fill the registers
  const int64_t C = args.channels;
  parallel(ceil_div(args.tokens, kMergedPerTask), [&](int64_t task) {
    const int64_t end = min64(args.tokens, (task + 1) * kMergedPerTask);
    for (int64_t t = task * kMergedPerTask; t < end; ++t) {
      const T* x = args.x.as<T>() + t * n * C;
      const T* f = args.output.as<T>() + t * C;
      const T* dy = args.grad_y.as<T>() + t * n * C;
      const float* post = args.post.f32() + t * n;
      const float* res = args.res.f32() + t * n * n;
      vf with_f[n] = {}, with_x[n * n] = {};
      for (int64_t c = 0; c < C; c += kColumns) {
        const int64_t stop = min64(C, c + kColumns);
        for (int i = 0; i < n; i += rows) products<n, rows>(dy + i * C, x, f, C, c, stop, with_f + i, with_x + i * n);
        mix<n>(dy, C, post, 1, c, stop, args.grad_output.as<T>() + t * C);
        if (args.grad_x)
          for (int j = 0; j < n; ++j) mix<n>(dy, C, res + j, n, c, stop, args.grad_x.as<T>() + (t * n + j) * C);
      }
      for (int i = 0; i < n; ++i) args.grad_post.f32()[t * n + i] = sum_lanes(with_f[i]);
      for (int k = 0; k < n * n; ++k) args.grad_res.f32()[t * n * n + k] = sum_lanes(with_x[k]);
    }
  });
}

}  // namespace

void merge_tokens(const MhcPostForwardArgs& args, int64_t first, int64_t end, bool past_caches, void* copy) {
  with_streams(args.n, [&](auto n) {
    with_float_type(args.x.dtype, [&](auto* type) {
      auto* rows = static_cast<decltype(type)>(copy);
      if (copy)
        merge<n(), Store::kPastCachesAndCopy>(args, first, end, rows);
      else if (past_caches)
        merge<n(), Store::kPastCaches>(args, first, end, rows);
      else
        merge<n(), Store::kCached>(args, first, end, rows);
    });
  });
}

void mhc_post_forward(const MhcPostForwardArgs& args) {
  const bool past_caches = streams_past_caches(args.y.data, args.channels, args.y.size * dtype_bytes(args.y.dtype));
  parallel(ceil_div(args.tokens, kMergedPerTask), [&](int64_t task) {
    const int64_t first = task * kMergedPerTask;
    merge_tokens(args, first, min64(args.tokens, first + kMergedPerTask), past_caches);
  });
}

void mhc_post_backward(const MhcPostBackwardArgs& args) {
  with_streams(args.n, [&](auto n) {
    with_float_type(args.x.dtype, [&](auto* type) { backward<n(), std::remove_pointer_t<decltype(type)>>(args); });
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
