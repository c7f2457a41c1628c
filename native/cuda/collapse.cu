// Collapse: see collapse.h. A block takes eight tokens: all threads fold, one thread per token runs Sinkhorn in
// registers while other blocks of the SM stream, then all threads collapse.
//
//   q = sum of partials, in order    r = (s/K + eps)^(-1/2)    input_c = sum_i pre_i x_ic
#include "cuda/collapse.h"
namespace birkhoff::cuda {
namespace {

constexpr int kTokens = 8;
constexpr int kCollapseThreads = 256;

// Blocks of an SM to find registers for; left to itself the compiler spills to get one more.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kBlocksOfFour = 3;  // with four, sm_80 spills
#else
constexpr int kBlocksOfFour = 4;
#endif
template <int n>
inline constexpr int kBlocks = n < 4   ? 4
                               : n < 8 ? kBlocksOfFour
                                       : 2;

// The branch input of the block's tokens, for its columns.
template <int n, bool Vector, class T>
__device__ __forceinline__ void mix_streams(const CollapseArgs& a, int64_t first, int live, const float (*pre)[n]) {
  const int64_t C = a.channels, step = int64_t{kCollapseThreads} * 8 * gridDim.y;
  const T* x = static_cast<const T*>(a.x);
  T* input = static_cast<T*>(a.input);
  for (int t = 0; t < live; ++t) {
    const int64_t token = first + t;
    for (int64_t c = (int64_t{blockIdx.y} * kCollapseThreads + threadIdx.x) * 8; c < C; c += step) {
      float v[n][8], sum[8];
#pragma unroll
      for (int i = 0; i < n; ++i) load_some<Vector>(x + (token * n + i) * C + c, C - c, v[i]);
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        sum[k] = pre[t][0] * v[0][k];
#pragma unroll
        for (int i = 1; i < n; ++i) sum[k] = vfma(pre[t][i], v[i][k], sum[k]);
      }
      store_some<Vector>(input + token * C + c, C - c, sum);
    }
  }
}

// One kernel for all streams: most of its code is Sinkhorn, which does not depend on them.
template <int n, bool Head>
__global__ void __launch_bounds__(kCollapseThreads, kBlocks<n>)
    collapse_kernel(const CollapseArgs a, bool bfloat, bool vector) {
  using Coefs = Coefficients<n, Head, float>;
  constexpr int N = Coefs::kCount, kPadded = 8 * kRowTiles<n>;
  BIRKHOFF_SHARED(float, m, [kTokens][N + 1]);
  BIRKHOFF_SHARED(float, pre, [kTokens][n]);
  const int64_t first = int64_t{blockIdx.x} * kTokens;
  const int live = static_cast<int>(a.tokens - first < kTokens ? a.tokens - first : kTokens);
  const bool writes = blockIdx.y == 0;  // blocks of one tile differ in their columns only

  for (int k = threadIdx.x; k < live * N; k += kCollapseThreads) {
    const int t = k / N, row = k % N;
    const int64_t token = first + t;
    float q = 0.0f, squares = 0.0f;
    for (int64_t split = 0; split < a.splits; ++split) {
      q += a.partials.q[(split * a.tokens + token) * kPadded + row];
      squares += a.partials.squares[split * a.tokens + token];
    }
    const float r = 1.0f / sqrtf(squares / static_cast<float>(n * a.channels) + static_cast<float>(a.options.norm_eps));
    m[t][row] = r * q;
    if (!writes) continue;
    a.q[token * N + row] = q;
    if (row == 0) a.r[token] = r;
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) < live) {
    const int64_t token = first + threadIdx.x;
    Coefs coefficients;
    coefficients.compute(m[threadIdx.x], a.alpha, a.bias, a.options, NoSums{});
#pragma unroll
    for (int i = 0; i < n; ++i) {
      const float value = coefficients.pre[i] + pre_shift(a.options);
      pre[threadIdx.x][i] = value;
      if (writes) a.pre[token * n + i] = value;
    }
    if constexpr (!Head)
      if (writes) {
#pragma unroll
        for (int i = 0; i < n; ++i) a.post[token * n + i] = coefficients.post[i];
#pragma unroll
        for (int k = 0; k < n * n; ++k) a.res[token * n * n + k] = coefficients.res[k];
      }
  }
  __syncthreads();

  if (bfloat && vector)
    mix_streams<n, true, bfloat16>(a, first, live, pre);
  else if (bfloat)
    mix_streams<n, false, bfloat16>(a, first, live, pre);
  else if (vector)
    mix_streams<n, true, float>(a, first, live, pre);
  else
    mix_streams<n, false, float>(a, first, live, pre);
}

}  // namespace

void collapse(const CollapseArgs& args, int64_t n, DType dtype, bool head) {
  const int64_t tiles = ceil_div(args.tokens, kTokens);
  // Few tokens: several blocks per tile, each for some of the columns.
  const int64_t wanted = 2 * current().multiprocessors / tiles, most = ceil_div(args.channels, kCollapseThreads * 8);
  const int64_t columns = wanted < 1 ? 1 : wanted < most ? wanted : most;
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(columns));
  const bool vector = args.channels % 8 == 0 && aligned16(args.x) && aligned16(args.input);
  with_streams(n, [&](auto streams) {
    with_bool(head, [&](auto is_head) {
      launch(collapse_kernel<streams(), is_head()>, grid, kCollapseThreads, 0, args, dtype == DType::kBFloat16, vector);
    });
  });
}

}  // namespace birkhoff::cuda
