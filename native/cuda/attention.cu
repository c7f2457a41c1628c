// Attention on CUDA: batched matrix products and, between them, a causal softmax; see ops/attention.h for the maths and
// for how much is in memory at a time. Blocks that the mask hides altogether are not computed.
#include <algorithm>

#include "cuda/gemm.h"
#include "cuda/math.h"
#include "ops/attention.h"

namespace birkhoff::cuda {
namespace {

constexpr int kWarps = 8;  // of a block in which every warp has a row
constexpr int64_t kBlock = CudaAttentionPass::kBlock;
static_assert(kBlock <= 32 * 8 && kMaxHeadSize <= 32 * 8, "a warp holds a row, eight elements a lane");

// Rows of scores [heads, rows, keys] that begin at query `first` and at key 0, or at any key.
struct Rows {
  int64_t count, rows, keys, first, length, causal;
  // Of the row: which query of which head, in [heads, length].
  __device__ int64_t query(int64_t row) const { return row / rows * length + first + row % rows; }
};

// probabilities = softmax of each row's visible scores, zero elsewhere; a block per row. May be done in place.
template <int Threads, bool Vector, class T>
__global__ void __launch_bounds__(Threads)
    causal_softmax_kernel(const Rows r, const float* scores, T* probabilities, float* log_sum_exp) {
  BIRKHOFF_SHARED(float, scratch, [Threads / 32]);
  const int64_t row = blockIdx.x;
  const int64_t visible = r.causal ? r.first + row % r.rows + 1 : r.keys;
  const float* x = scores + row * r.keys;
  T* p = probabilities + row * r.keys;
  float top = -__builtin_huge_valf(), total = 0.0f;
  for (int64_t j = 8 * threadIdx.x; j < visible; j += 8 * Threads) {
    float v[8];
    load_some<Vector>(x + j, visible - j, v);
    float highest = top;
#pragma unroll
    for (int e = 0; e < 8; ++e)
      if (j + e < visible) highest = vmax(v[e], highest);
    total *= vexp(top - highest);
#pragma unroll
    for (int e = 0; e < 8; ++e)
      if (j + e < visible) total += vexp(v[e] - highest);
    top = highest;
  }
  const float row_top = max_block(top, scratch);
  const float row_total = sum_block(total * vexp(top - row_top), scratch);
  const float inverse = 1.0f / row_total;
  for (int64_t j = 8 * threadIdx.x; j < r.keys; j += 8 * Threads) {
    float v[8];
    load_some<Vector>(x + j, r.keys - j, v);
#pragma unroll
    for (int e = 0; e < 8; ++e) v[e] = j + e < visible ? vexp(v[e] - row_top) * inverse : 0.0f;
    store_some<Vector>(p + j, r.keys - j, v);
  }
  if (threadIdx.x == 0) log_sum_exp[r.query(row)] = row_top + logf(row_total);
}

// P = exp(S - logSumExp), dS = P (dP - delta), zero where masked; a warp per row, key_first: the row's first key. May
// be done in place. Without dP there is no dS.
template <bool Vector, class T>
__global__ void __launch_bounds__(32 * kWarps)
    score_gradients_kernel(const Rows r, int64_t key_first, const float* scores, const float* grad_probabilities,
                           const float* log_sum_exp, const float* delta, T* probabilities, T* grad_scores) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32, j = 8 * (threadIdx.x % 32);
  if (row >= r.count || j >= r.keys) return;
  const int64_t query = r.query(row), at = row * r.keys + j;
  const int64_t visible = r.causal ? r.first + row % r.rows - key_first + 1 : r.keys;
  float p[8], g[8];
  load_some<Vector>(scores + at, r.keys - j, p);
#pragma unroll
  for (int e = 0; e < 8; ++e) p[e] = j + e < visible ? vexp(p[e] - log_sum_exp[query]) : 0.0f;
  if (grad_scores) {
    load_some<Vector>(grad_probabilities + at, r.keys - j, g);
#pragma unroll
    for (int e = 0; e < 8; ++e) g[e] = j + e < visible ? p[e] * (g[e] - delta[query]) : 0.0f;
    store_some<Vector>(grad_scores + at, r.keys - j, g);
  }
  store_some<Vector>(probabilities + at, r.keys - j, p);
}

// delta[row] = <dout, out>; a warp per row.
template <bool Vector, class T>
__global__ void __launch_bounds__(32 * kWarps)
    delta_kernel(int64_t rows, int64_t size, const T* grad_out, const T* out, float* delta) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32, i = 8 * (threadIdx.x % 32);
  if (row >= rows) return;
  float sum = 0.0f;
  if (i < size) {
    float a[8], b[8];
    load_some<Vector>(grad_out + row * size + i, size - i, a);
    load_some<Vector>(out + row * size + i, size - i, b);
#pragma unroll
    for (int e = 0; e < 8; ++e) sum = vfma(a[e], b[e], sum);
  }
  sum = sum_warp(sum);
  if (threadIdx.x % 32 == 0) delta[row] = sum;
}

__global__ void __launch_bounds__(256) round_kernel(int64_t size, const float* x, bfloat16* out) {
  const int64_t step = int64_t{256} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x; i < size; i += step) out[i] = to_bfloat16(x[i]);
}

int64_t heads_at_a_time(const CudaAttentionPass& pass) {
#ifdef BIRKHOFF_CUDA_EMULATED
  return pass.heads < 4 ? pass.heads : 4;  // so that small tests have a second pass
#else
  return pass.heads;
#endif
}

unsigned warp_blocks(int64_t rows) {
  return static_cast<unsigned>(ceil_div(rows, kWarps));
}

// A product of panels [T, D] or scores of `heads` heads.
struct Panel {
  const void* data;
  int64_t stride;
};
template <class T, class C>
void multiply(int64_t heads, int64_t m, int64_t n, int64_t k, const Panel& a, bool transpose_a, const Panel& b,
              bool transpose_b, C* c, int64_t c_stride, float scale, bool accumulate = false) {
  constexpr DType type = sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32;
  constexpr DType c_type = sizeof(C) == 2 ? DType::kBFloat16 : DType::kFloat32;
  gemm({.a = a.data,
        .b = b.data,
        .c = c,
        .a_type = type,
        .b_type = type,
        .c_type = c_type,
        .m = m,
        .n = n,
        .k = k,
        .transpose_a = transpose_a,
        .transpose_b = transpose_b,
        .batch = heads,
        .a_stride = a.stride,
        .b_stride = b.stride,
        .c_stride = c_stride,
        .scale = scale,
        .accumulate = accumulate});
}

template <class T>
void forward_heads(const AttentionForwardArgs& args, int64_t head, int64_t heads, int64_t scores_per_head) {
  const int64_t length = args.length, size = args.head_size, panel = length * size, base = head * panel;
  float* const scores = static_cast<float*>(args.scratch);
  T* const probabilities =
      sizeof(T) == 2 ? reinterpret_cast<T*>(scores + heads * scores_per_head) : reinterpret_cast<T*>(scores);
  for (int64_t first = 0; first < length; first += kBlock) {
    const int64_t rows = std::min(kBlock, length - first), keys = args.causal ? first + rows : length;
    const int64_t block = rows * keys, at = base + first * size;
    multiply<T>(heads, rows, keys, size, {args.q.as<T>() + at, panel}, false, {args.k.as<T>() + base, panel}, true,
                scores, block, static_cast<float>(args.scale));
    const Rows r{heads * rows, rows, keys, first, length, args.causal};
    with_bool(keys % 8 == 0, [&](auto vector) {
      with_bool(keys <= 256, [&](auto small) {
        constexpr int threads = small() ? 32 : 256;
        launch(causal_softmax_kernel<threads, vector(), T>, static_cast<unsigned>(r.count), threads, 0, r, scores,
               probabilities, args.log_sum_exp.f32() + head * length);
      });
    });
    multiply<T>(heads, rows, size, keys, {probabilities, block}, false, {args.v.as<T>() + base, panel}, false,
                args.out.as<T>() + at, panel, 1.0f);
  }
}

template <class T>
void backward_heads(const AttentionBackwardArgs& args, int64_t head, int64_t heads, int64_t scores_per_head) {
  const int64_t length = args.length, size = args.head_size, panel = length * size, base = head * panel;
  const int64_t capacity = heads * scores_per_head;
  const float scale = static_cast<float>(args.scale);
  float* const scores = static_cast<float*>(args.scratch);
  float* const grad_probabilities = scores + capacity;
  float* next = grad_probabilities + capacity;
  T *probabilities, *grad_scores;
  if constexpr (sizeof(T) == 2) {
    probabilities = reinterpret_cast<T*>(next), grad_scores = probabilities + capacity;
    next += capacity;
  } else {
    probabilities = scores, grad_scores = grad_probabilities;
  }
  float* grad_q = nullptr;
  if constexpr (sizeof(T) == 2)
    grad_q = next, next += heads * panel;
  else if (args.grad_q)
    grad_q = args.grad_q.as<T>() + base;
  float* const delta = next;
  const bool wants_scores = args.grad_q || args.grad_k;

  const T* const out = args.out.as<T>() + base;
  const T* const grad_out = args.grad_out.as<T>() + base;
  if (wants_scores)
    with_bool(size % 8 == 0 && aligned16(out) && aligned16(grad_out), [&](auto vector) {
      launch(delta_kernel<vector(), T>, warp_blocks(heads * length), 32 * kWarps, 0, heads * length, size, grad_out,
             out, delta);
    });

  for (int64_t start = 0; start < length; start += kBlock) {
    const int64_t keys = std::min(kBlock, length - start), first = args.causal ? start : 0, rows = length - first;
    const int64_t block = rows * keys, key_at = base + start * size, query_at = base + first * size;
    const Panel q{args.q.as<T>() + query_at, panel}, k{args.k.as<T>() + key_at, panel};
    const Panel g{args.grad_out.as<T>() + query_at, panel}, v{args.v.as<T>() + key_at, panel};
    multiply<T>(heads, rows, keys, size, q, false, k, true, scores, block, scale);
    if (wants_scores) multiply<T>(heads, rows, keys, size, g, false, v, true, grad_probabilities, block, 1.0f);
    const Rows r{heads * rows, rows, keys, first, length, args.causal};
    with_bool(keys % 8 == 0, [&](auto vector) {
      launch(score_gradients_kernel<vector(), T>, warp_blocks(r.count), 32 * kWarps, 0, r, start, scores,
             grad_probabilities, args.log_sum_exp.f32() + head * length, delta, probabilities,
             wants_scores ? grad_scores : nullptr);
    });
    const Panel p{probabilities, block}, s{grad_scores, block};
    if (args.grad_v) multiply<T>(heads, keys, size, rows, p, true, g, false, args.grad_v.as<T>() + key_at, panel, 1.0f);
    if (args.grad_k)
      multiply<T>(heads, keys, size, rows, s, true, q, false, args.grad_k.as<T>() + key_at, panel, scale);
    // The first block of keys reaches every query.
    if (args.grad_q)
      multiply<T>(heads, rows, size, keys, s, false, k, false, grad_q + first * size, panel, scale, start > 0);
  }
  if constexpr (sizeof(T) == 2)
    if (args.grad_q)
      launch(round_kernel, grid_for(heads * panel, 256), 256, 0, heads * panel, grad_q, args.grad_q.as<T>() + base);
}

}  // namespace

void attention_forward(const AttentionForwardArgs& args) {
  if (args.length == 0) return;
  const CudaAttentionPass pass = args.cuda_pass();
  const int64_t step = heads_at_a_time(pass);
  with_float_type(args.q.dtype, [&](auto* type) {
    for (int64_t head = 0; head < args.heads; head += step)
      forward_heads<std::remove_pointer_t<decltype(type)>>(args, head, std::min(step, args.heads - head), pass.scores);
  });
}

void attention_backward(const AttentionBackwardArgs& args) {
  if (args.length == 0) return;
  const CudaAttentionPass pass = args.cuda_pass();
  const int64_t step = heads_at_a_time(pass);
  with_float_type(args.q.dtype, [&](auto* type) {
    for (int64_t head = 0; head < args.heads; head += step)
      backward_heads<std::remove_pointer_t<decltype(type)>>(args, head, std::min(step, args.heads - head), pass.scores);
  });
}

}  // namespace birkhoff::cuda
