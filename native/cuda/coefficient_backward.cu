// Coefficient backward: see coefficient_backward.h. One thread per token runs the coefficients again from q and r,
// Sinkhorn's backward with its sums in shared memory, and what follows:
//
//   dpre_i += <du, x_i>    dz = dpre s(1 - s) | dpost post (1 - post / 2) | Sinkhorn backward of dres
//   dm = alpha dz    dbias = sum_t dz    dalpha_g = sum_t sum_(k in g) dz_k m_k
//
// Sums over tokens are taken in double, block by block, then the blocks in order.
#include "cuda/bf16_terms.h"
#include "cuda/coefficient_backward.h"
#include "cuda/sinkhorn_threads.h"
#include "cuda/token_sums.h"

namespace birkhoff::cuda {
namespace {

constexpr int kCoefficientBackwardThreads = 128;

// <du, x_i> of one token per block.
template <int n, bool Vector, class T>
__global__ void __launch_bounds__(256) grad_pre_kernel(const T* x, const T* du, float* grad_pre, int64_t C) {
  BIRKHOFF_SHARED(float, shared, [8 * n]);
  const int64_t t = blockIdx.x;
  x += t * n * C, du += t * C;
  float sums[n] = {};
  for (int64_t c = int64_t{threadIdx.x} * 8; c < C; c += int64_t{blockDim.x} * 8) {
    float xv[n][8], d[8];
    load_some<Vector>(du + c, C - c, d);
#pragma unroll
    for (int i = 0; i < n; ++i) load_some<Vector>(x + i * C + c, C - c, xv[i]);
#pragma unroll
    for (int i = 0; i < n; ++i)
#pragma unroll
      for (int k = 0; k < 8; ++k) sums[i] = vfma(d[k], xv[i][k], sums[i]);
  }
  sum_over_block(sums, shared, [&](int i, float sum) { grad_pre[t * n + i] = sum; });
}

struct CoefficientArgs {
  const float *q, *r, *alpha, *bias;
  const float *grad_input_pre, *grad_pre, *grad_post, *grad_res;  // the first from du; each may be null
  FinishScratch scratch;
  int64_t tokens, channels;
  int tokens_per_block;
  CoefficientOptions options;
};

// r q of a token, from memory each time it is asked for: registers would hold it through all of Sinkhorn.
struct Projected {
  const float* q;
  float r;
  __device__ __forceinline__ float operator[](int k) const { return r * q[k]; }
};

// Two blocks an SM: shared memory has no room for more divisors, so registers need not be saved.
template <int n, bool Head>
__global__ void __launch_bounds__(kCoefficientBackwardThreads, 2) coefficient_kernel(const CoefficientArgs a) {
  using Coefs = Coefficients<n, Head, float>;
  constexpr int N = Coefs::kCount, kGroups = Head ? 1 : 3, kAll = n * n + 2 * n, kPadded = (kAll + 15) / 16 * 16;
  BIRKHOFF_DYNAMIC_SHARED(float, divisors);  // of the block's tokens
  BIRKHOFF_SHARED(float, warp_sums, [kCoefficientBackwardThreads / 32][N + kGroups]);
  const int64_t t = int64_t{blockIdx.x} * a.tokens_per_block + threadIdx.x;
  const bool live = static_cast<int>(threadIdx.x) < a.tokens_per_block && t < a.tokens;
  float dz[N + kGroups] = {};  // then what the token adds to dalpha
  if (live) {
    const Sums<float> sums{divisors + threadIdx.x, a.tokens_per_block};
    const float r = a.r[t];
    const Projected projected{a.q + t * N, r};
    Coefs coefficients;
    coefficients.compute(projected, a.alpha, a.bias, a.options, sums);
    float weights[n][kFinishWeights<n>] = {};
#pragma unroll
    for (int j = 0; j < n; ++j) {
      if constexpr (!Head)
#pragma unroll
        for (int i = 0; i < n; ++i) weights[j][i] = coefficients.res[i * n + j];
      weights[j][n] = coefficients.pre[j] + pre_shift(a.options);
    }
    const auto store_weights = [&](int j, int from, int to) {
      float* const target = a.scratch.weights + (t * n + j) * kFinishWeights<n>;
#pragma unroll
      for (int k = from; k < to; k += 4)
        store4(target + k, weights[j][k], weights[j][k + 1], weights[j][k + 2], weights[j][k + 3]);
    };
    // What is known already leaves before backward needs the registers.
    constexpr int kEarly = n / 4 * 4;
#pragma unroll
    for (int j = 0; j < n; ++j) store_weights(j, 0, kEarly);

    float dpre[n], dpost[n], dres[n * n], gradient[N];
#pragma unroll
    for (int i = 0; i < n; ++i) {
      dpre[i] = (a.grad_input_pre ? a.grad_input_pre[t * n + i] : 0.0f) + (a.grad_pre ? a.grad_pre[t * n + i] : 0.0f);
      dpost[i] = a.grad_post ? a.grad_post[t * n + i] : 0.0f;
    }
#pragma unroll
    for (int k = 0; k < n * n; ++k) dres[k] = a.grad_res ? a.grad_res[t * n * n + k] : 0.0f;
    coefficients.backward(projected, a.alpha, a.bias, dpre, dpost, dres, a.options, sums, gradient);

    float dot = 0.0f;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const int group = coefficient_group<n>(k);
      const float m = projected[k], dm = a.alpha[group] * gradient[k];
      dz[k] = gradient[k];
      dz[N + group] = vfma(gradient[k], m, dz[N + group]);
      dot = vfma(dm, m, dot);
      a.scratch.row_gradients[t * kPadded + k] = r * dm;
    }
#pragma unroll
    for (int k = N; k < kPadded; ++k) a.scratch.row_gradients[t * kPadded + k] = 0.0f;
    const float norm_term = -(r * r / static_cast<float>(n * a.channels)) * dot;
#pragma unroll
    for (int j = 0; j < n; ++j) {
      weights[j][n + 1] = norm_term;
      store_weights(j, kEarly, kFinishWeights<n>);
    }
  }

  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int first = 0; first < N + kGroups; first += 32) {
    float group[32];
#pragma unroll
    for (int k = 0; k < 32; ++k)
      group[k] = first + k < N + kGroups ? dz[first + k < N + kGroups ? first + k : 0] : 0.0f;
    const float sum = transpose_sum(group);
    if (first + lane < N + kGroups) warp_sums[warp][first + lane] = sum;
  }
  __syncthreads();
  for (int k = threadIdx.x; k < N + kGroups; k += blockDim.x) {
    double total = 0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += warp_sums[w][k];
    a.scratch.sums[int64_t{blockIdx.x} * (kAll + 3) + k] = total;
  }
}

// One warp per sum: lanes take every 32nd block of tokens.
__global__ void __launch_bounds__(32)
    fold_sums_kernel(const double* sums, int64_t blocks, int stride, int rows, float* grad_bias, float* grad_alpha) {
  const int k = blockIdx.x;
  double total = 0;
  for (int64_t b = threadIdx.x; b < blocks; b += 32) total += sums[b * stride + k];
  total = sum_warp(total);
  if (threadIdx.x == 0) (k < rows ? grad_bias[k] : grad_alpha[k - rows]) = static_cast<float>(total);
}

// r dm [T, rows] as bfloat16 terms in the order of mma's operands, one thread per lane; tokens beyond T are zero.
__global__ void __launch_bounds__(256) gradient_terms_kernel(const float* row_gradients, int64_t tokens, int row_steps,
                                                             int64_t items, uint4* of_rows, uint4* of_tokens) {
  const int64_t item = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (item >= items) return;
  const int lane = static_cast<int>(item % 32), g = lane / 4, p = lane % 4;
  const int step = static_cast<int>(item / 32 % row_steps);
  const int64_t tile = item / 32 / row_steps;
  const auto at = [&](int token, int row) {
    const int64_t t = tile * 16 + token;
    return t < tokens ? row_gradients[t * row_steps * 16 + step * 16 + row] : 0.0f;
  };
  uint32_t terms[8][3];
  split_pair(at(2 * p, g), at(2 * p + 1, g), terms[0]);
  split_pair(at(2 * p + 8, g), at(2 * p + 9, g), terms[1]);
  split_pair(at(2 * p, g + 8), at(2 * p + 1, g + 8), terms[2]);
  split_pair(at(2 * p + 8, g + 8), at(2 * p + 9, g + 8), terms[3]);
  split_pair(at(g, 2 * p), at(g, 2 * p + 1), terms[4]);
  split_pair(at(g, 2 * p + 8), at(g, 2 * p + 9), terms[5]);
  split_pair(at(g + 8, 2 * p), at(g + 8, 2 * p + 1), terms[6]);
  split_pair(at(g + 8, 2 * p + 8), at(g + 8, 2 * p + 9), terms[7]);
#pragma unroll
  for (int term = 0; term < 3; ++term) {
    const int64_t place = ((tile * row_steps + step) * 3 + term) * 32 + lane;
    of_rows[place] = make_uint4(terms[0][term], terms[1][term], terms[2][term], terms[3][term]);
    of_tokens[place] = make_uint4(terms[4][term], terms[5][term], terms[6][term], terms[7][term]);
  }
}

}  // namespace

FinishScratch::FinishScratch(const FinishShape& shape, void* scratch) {
  char* at = static_cast<char*>(scratch);
  const auto take = [&](int64_t bytes) {
    char* const start = at;
    at += (bytes + 15) / 16 * 16;  // the sizes' slack of 64 bytes covers it
    return start;
  };
  phi = reinterpret_cast<uint4*>(take(shape.phi_bytes()));
  of_rows = reinterpret_cast<uint4*>(take(shape.gradient_bytes()));
  of_tokens = reinterpret_cast<uint4*>(take(shape.gradient_bytes()));
  sums = reinterpret_cast<double*>(take(shape.sum_bytes()));
  weights = reinterpret_cast<float*>(take(shape.weight_bytes()));
  row_gradients = reinterpret_cast<float*>(take(shape.row_gradient_bytes()));
  grad_pre = reinterpret_cast<float*>(take(shape.grad_pre_bytes()));
  partials = reinterpret_cast<float*>(take(shape.partial_bytes()));
}

void coefficient_backward(const MhcPreBackwardArgs& args, const FinishScratch& scratch) {
  const FinishShape shape{args.tokens, args.n, args.channels};
  const int64_t rows = args.coefficients(), groups = args.head() ? 1 : 3;
  const SinkhornThreads threads =
      sinkhorn_threads(args.n, args.head() ? 1 : args.options.iters, kCoefficientBackwardThreads);
  const int64_t blocks = ceil_div(args.tokens, threads.count);
  if (args.tokens > 0) {
    with_streams(args.n, [&](auto n) {
      if (args.grad_input)
        with_float_type(args.x.dtype, [&](auto* type) {
          using T = std::remove_pointer_t<decltype(type)>;
          with_vectors<n()>(args.channels % 8 == 0 && aligned16(args.x, args.grad_input), [&](auto vector) {
            launch(grad_pre_kernel<n(), vector(), T>, static_cast<unsigned>(args.tokens),
                   threads_per_token(args.channels), 0, args.x.as<T>(), args.grad_input.as<T>(), scratch.grad_pre,
                   args.channels);
          });
        });
      const CoefficientArgs coefficients{.q = args.q.f32(),
                                         .r = args.r.f32(),
                                         .alpha = args.alpha.f32(),
                                         .bias = args.bias.f32(),
                                         .grad_input_pre = args.grad_input ? scratch.grad_pre : nullptr,
                                         .grad_pre = args.grad_pre.f32(),
                                         .grad_post = args.grad_post.f32(),
                                         .grad_res = args.grad_res.f32(),
                                         .scratch = scratch,
                                         .tokens = args.tokens,
                                         .channels = args.channels,
                                         .tokens_per_block = static_cast<int>(threads.count),
                                         .options = args.options};
      with_bool(args.head(), [&](auto head) {
        launch(coefficient_kernel<n(), head()>, static_cast<unsigned>(blocks), threads.count < 32 ? 32 : threads.count,
               threads.shared_bytes, coefficients);
      });
    });
    const int64_t items = shape.token_tiles() * shape.row_steps() * 32;
    launch(gradient_terms_kernel, static_cast<unsigned>(ceil_div(items, 256)), 256, 0, scratch.row_gradients,
           args.tokens, static_cast<int>(shape.row_steps()), items, scratch.of_rows, scratch.of_tokens);
  }
  launch(fold_sums_kernel, static_cast<unsigned>(rows + groups), 32, 0, scratch.sums, blocks,
         static_cast<int>(shape.rows() + 3), static_cast<int>(rows), args.grad_bias.f32(), args.grad_alpha.f32());
}

}  // namespace birkhoff::cuda
