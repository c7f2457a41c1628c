// mhcPost on CUDA: a block per token, eight channels of all streams per thread, coefficients in registers; backward
// ("prepare") takes all products of dy, x and f in one read. See ops/mhc_post.h for the equations.
#include "cuda/math.h"
#include "cuda/mhc_merge.h"
#include "cuda/token_sums.h"
#include "ops/mhc_post.h"

namespace birkhoff::cuda {
namespace {

template <int n, bool Vector, class T>
__global__ void __launch_bounds__(256)
    merge_kernel(const T* x, const T* f, const float* post, const float* res, T* y, int64_t C) {
  const int64_t t = blockIdx.x;
  x += t * n * C, f += t * C, y += t * n * C;
  float post_t[n], res_t[n * n];
#pragma unroll
  for (int i = 0; i < n; ++i) post_t[i] = post[t * n + i];
#pragma unroll
  for (int k = 0; k < n * n; ++k) res_t[k] = res[t * n * n + k];
  for (int64_t c = int64_t{threadIdx.x} * 8; c < C; c += int64_t{blockDim.x} * 8) {
    float xv[n][8], fv[8];
#pragma unroll
    for (int j = 0; j < n; ++j) load_some<Vector>(x + j * C + c, C - c, xv[j]);
    load_some<Vector>(f + c, C - c, fv);
#pragma unroll
    for (int i = 0; i < n; ++i) {
      float sum[8];
      merge_stream<n>(i, xv, fv, post_t, res_t, sum);
      store_some<Vector>(y + i * C + c, C - c, sum);
    }
  }
}

// out = sum_i weight_i v_i
template <int n, class Weight>
__device__ __forceinline__ void mix(const float (&v)[n][8], const Weight& weight, float (&out)[8]) {
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    out[k] = weight(0) * v[0][k];
#pragma unroll
    for (int i = 1; i < n; ++i) out[k] = vfma(weight(i), v[i][k], out[k]);
  }
}

template <int n, bool Vector, class T>
__global__ void __launch_bounds__(256)
    prepare_kernel(const T* x, const T* f, const T* dy, const float* post, const float* res, T* df, float* dpost,
                   float* dres, T* dx, int64_t C) {
  BIRKHOFF_SHARED(float, shared, [8 * (n + n * n)]);
  const int64_t t = blockIdx.x;
  x += t * n * C, f += t * C, dy += t * n * C, df += t * C;
  if (dx) dx += t * n * C;
  float post_t[n];
#pragma unroll
  for (int i = 0; i < n; ++i) post_t[i] = post[t * n + i];
  float sums[n + n * n] = {};  // dpost, then dres
  for (int64_t c = int64_t{threadIdx.x} * 8; c < C; c += int64_t{blockDim.x} * 8) {
    float dyv[n][8], v[8], out[8];
#pragma unroll
    for (int i = 0; i < n; ++i) load_some<Vector>(dy + i * C + c, C - c, dyv[i]);
    load_some<Vector>(f + c, C - c, v);
#pragma unroll
    for (int i = 0; i < n; ++i)
#pragma unroll
      for (int k = 0; k < 8; ++k) sums[i] = vfma(dyv[i][k], v[k], sums[i]);
#pragma unroll
    for (int j = 0; j < n; ++j) {
      load_some<Vector>(x + j * C + c, C - c, v);
#pragma unroll
      for (int i = 0; i < n; ++i)
#pragma unroll
        for (int k = 0; k < 8; ++k) sums[n + i * n + j] = vfma(dyv[i][k], v[k], sums[n + i * n + j]);
    }
    mix<n>(
        dyv, [&](int i) { return post_t[i]; }, out);
    store_some<Vector>(df + c, C - c, out);
    if (dx)
#pragma unroll
      for (int j = 0; j < n; ++j) {
        mix<n>(
            dyv, [&](int i) { return res[t * n * n + i * n + j]; }, out);
        store_some<Vector>(dx + j * C + c, C - c, out);
      }
  }
  sum_over_block(sums, shared, [&](int k, float sum) {
    if (k < n)
      dpost[t * n + k] = sum;
    else
      dres[t * n * n + k - n] = sum;
  });
}

template <class Args, class F>
void dispatch(const Args& args, bool aligned, const F& body) {
  with_streams(args.n, [&](auto n) {
    with_float_type(args.x.dtype, [&](auto* type) {
      with_vectors<n()>(args.channels % 8 == 0 && aligned, [&](auto vector) { body(n, type, vector); });
    });
  });
}

}  // namespace

void mhc_post_forward(const MhcPostForwardArgs& args) {
  if (args.tokens == 0) return;
  dispatch(args, aligned16(args.x, args.output, args.y), [&](auto n, auto* type, auto vector) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(merge_kernel<n(), vector(), T>, static_cast<unsigned>(args.tokens), threads_per_token(args.channels), 0,
           args.x.as<T>(), args.output.as<T>(), args.post.f32(), args.res.f32(), args.y.as<T>(), args.channels);
  });
}

void mhc_post_backward(const MhcPostBackwardArgs& args) {
  if (args.tokens == 0) return;
  const bool aligned = aligned16(args.x, args.output, args.grad_y, args.grad_output, args.grad_x);
  dispatch(args, aligned, [&](auto n, auto* type, auto vector) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(prepare_kernel<n(), vector(), T>, static_cast<unsigned>(args.tokens), threads_per_token(args.channels), 0,
           args.x.as<T>(), args.output.as<T>(), args.grad_y.as<T>(), args.post.f32(), args.res.f32(),
           args.grad_output.as<T>(), args.grad_post.f32(), args.grad_res.f32(), args.grad_x.as<T>(), args.channels);
  });
}

}  // namespace birkhoff::cuda
