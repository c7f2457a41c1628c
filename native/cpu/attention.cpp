// Attention on CPU: blocks of queries against blocks of keys, each a small gemm; see ops/attention.h for the maths.
#include <math.h>

#include "cpu/gemm_kernel.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"
#include "cpu/workspace.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int64_t kQueries = 64;
constexpr int64_t kKeys = 128;
constexpr int64_t kPanel = 128 * kMaxHeadSize;
// Forward: the scores, the sum of out, q, k, v widened. Backward: scores and their gradient, dk, dv, q, k, v, dout.
static_assert(kQueries * kKeys + 4 * kPanel <= kKernelWorkspace);
static_assert(2 * kQueries * kQueries + 6 * kQueries * kMaxHeadSize <= kKernelWorkspace);

// `size` elements as float32: in place, or widened into `buffer`.
BIRKHOFF_INLINE const float* as_float(const float* x, int64_t, float*) {
  return x;
}
BIRKHOFF_INLINE const float* as_float(const bfloat16* x, int64_t size, float* buffer) {
  convert(x, buffer, size);
  return buffer;
}
BIRKHOFF_INLINE float* as_output(float* x, float*) {
  return x;
}
BIRKHOFF_INLINE float* as_output(bfloat16*, float* buffer) {
  return buffer;
}

// c [m, n] = alpha * op(a) op(b) + beta * c with dense rows; the inner extent k.
BIRKHOFF_INLINE void multiply(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
                              const float* a, const float* b, float beta, float* c, int64_t lda, int64_t ldb,
                              int64_t ldc) {
  gemm({transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc});
}

template <class T>
void forward_block(const AttentionForwardArgs& args, int64_t head, int64_t first) {
  const int64_t length = args.length, size = args.head_size, rows = min64(kQueries, length - first);
  const int64_t base = head * length * size;
  float* scores = kernel_workspace();
  float* sum_buffer = scores + kQueries * kKeys;
  float* q_buffer = sum_buffer + kPanel;
  float* k_buffer = q_buffer + kPanel;
  float* v_buffer = k_buffer + kPanel;
  T* const target = args.out.as<T>() + base + first * size;
  float* const out = as_output(target, sum_buffer);
  const float* q = as_float(args.q.as<T>() + base + first * size, rows * size, q_buffer);
  float top[kQueries], total[kQueries];
  for (int64_t i = 0; i < rows; ++i) top[i] = -__builtin_inff(), total[i] = 0.0f;

  const int64_t end = args.causal ? first + rows : length;
  for (int64_t start = 0; start < end; start += kKeys) {
    const int64_t keys = min64(kKeys, end - start);
    const float* k = as_float(args.k.as<T>() + base + start * size, keys * size, k_buffer);
    const float* v = as_float(args.v.as<T>() + base + start * size, keys * size, v_buffer);
    multiply(false, true, rows, keys, size, static_cast<float>(args.scale), q, k, 0.0f, scores, size, size, kKeys);
    for (int64_t i = 0; i < rows; ++i) {
      float* row = scores + i * kKeys;
      const int64_t visible = args.causal ? max64(0, min64(keys, first + i - start + 1)) : keys;
      const float block_top = row_max(row, visible);
      const float new_top = block_top > top[i] ? block_top : top[i];
      vf sum{};
      for_vectors(visible, [&](int64_t j, int64_t count) {
        vf p = vexp(load_upto(row + j, count) - new_top);
        store_upto(row + j, p, count);
        if (count < W) p = load_partial(row + j, count);  // lanes past the end count nothing
        sum = sum + p;
      });
      for (int64_t j = visible; j < keys; ++j) row[j] = 0.0f;
      // The first block has nothing to rescale: exp(-infinity) = 0, and out is not read there.
      const float rescale = vexp(top[i] - new_top);
      total[i] = total[i] * rescale + sum_lanes(sum);
      top[i] = new_top;
      if (start > 0 && rescale != 1.0f) scale_by(out + i * size, rescale, size);
    }
    multiply(false, false, rows, size, keys, 1.0f, scores, v, start > 0 ? 1.0f : 0.0f, out, kKeys, size, size);
  }
  for (int64_t i = 0; i < rows; ++i) {
    scale_by(out + i * size, 1.0f / total[i], size);
    args.log_sum_exp.f32()[head * length + first + i] = top[i] + logf(total[i]);
  }
  if constexpr (sizeof(T) == 2) convert(out, target, rows * size);
}

// P and dS of one block of queries and keys, in place of the scores and of dP.
BIRKHOFF_INLINE void score_gradients(float* scores, float* grads, const float* log_sum_exp, const float* delta,
                                     int64_t rows, int64_t keys, int64_t ahead, bool causal) {
  for (int64_t i = 0; i < rows; ++i) {
    float* p = scores + i * kQueries;
    float* g = grads + i * kQueries;
    const int64_t visible = causal ? max64(0, min64(keys, ahead + i + 1)) : keys;
    for_vectors(visible, [&](int64_t j, int64_t count) {
      const vf value = vexp(load_upto(p + j, count) - log_sum_exp[i]);
      store_upto(p + j, value, count);
      store_upto(g + j, value * (load_upto(g + j, count) - delta[i]), count);
    });
    for (int64_t j = visible; j < keys; ++j) p[j] = g[j] = 0.0f;
  }
}

template <class T>
void backward_head(const AttentionBackwardArgs& args, int64_t head) {
  const int64_t length = args.length, size = args.head_size, base = head * length * size;
  constexpr int64_t panel = kQueries * kMaxHeadSize;
  float* scores = kernel_workspace();
  float* grads = scores + kQueries * kQueries;
  float* buffers = grads + kQueries * kQueries;
  float* delta = static_cast<float*>(args.scratch) + head * length;
  float* grad_q_sums = static_cast<float*>(args.scratch) + args.heads * length + base;
  const float* log_sum_exp = args.log_sum_exp.f32() + head * length;
  const float scale = static_cast<float>(args.scale);
  const T* grad_out = args.grad_out.as<T>() + base;
  for (int64_t i = 0; i < length; ++i)
    delta[i] = row_dot(grad_out + i * size, args.out.as<T>() + base + i * size, size);
  float* grad_q = args.grad_q ? as_output(args.grad_q.as<T>() + base, grad_q_sums) : nullptr;

  for (int64_t start = 0; start < length; start += kQueries) {
    const int64_t keys = min64(kQueries, length - start), at = base + start * size;
    const float* k = as_float(args.k.as<T>() + at, keys * size, buffers);
    const float* v = as_float(args.v.as<T>() + at, keys * size, buffers + panel);
    float* grad_k = args.grad_k ? as_output(args.grad_k.as<T>() + at, buffers + 2 * panel) : nullptr;
    float* grad_v = args.grad_v ? as_output(args.grad_v.as<T>() + at, buffers + 3 * panel) : nullptr;
    const int64_t begin = args.causal ? start : 0;  // both blocks start at multiples of kQueries
    for (int64_t first = begin; first < length; first += kQueries) {
      const int64_t rows = min64(kQueries, length - first);
      const float* q = as_float(args.q.as<T>() + base + first * size, rows * size, buffers + 4 * panel);
      const float* g = as_float(grad_out + first * size, rows * size, buffers + 5 * panel);
      const float beta = first > begin ? 1.0f : 0.0f;
      multiply(false, true, rows, keys, size, scale, q, k, 0.0f, scores, size, size, kQueries);
      multiply(false, true, rows, keys, size, 1.0f, g, v, 0.0f, grads, size, size, kQueries);
      score_gradients(scores, grads, log_sum_exp + first, delta + first, rows, keys, first - start, args.causal != 0);
      if (grad_v) multiply(true, false, keys, size, rows, 1.0f, scores, g, beta, grad_v, kQueries, size, size);
      if (grad_k) multiply(true, false, keys, size, rows, scale, grads, q, beta, grad_k, kQueries, size, size);
      if (grad_q)
        multiply(false, false, rows, size, keys, scale, grads, k, start > 0 ? 1.0f : 0.0f, grad_q + first * size,
                 kQueries, size, size);
    }
    if constexpr (sizeof(T) == 2) {
      if (grad_k) convert(grad_k, args.grad_k.as<T>() + at, keys * size);
      if (grad_v) convert(grad_v, args.grad_v.as<T>() + at, keys * size);
    }
  }
  if constexpr (sizeof(T) == 2)
    if (grad_q) convert(grad_q, args.grad_q.as<T>() + base, length * size);
}

}  // namespace

void attention_forward(const AttentionForwardArgs& args) {
  if (args.length == 0) return;
  const int64_t blocks = ceil_div(args.length, kQueries);
  const bool narrow = args.q.dtype == DType::kBFloat16;
  parallel(args.heads * blocks, [&](int64_t task) {
    // Causal: the last block of queries has the most keys, so it goes first.
    const int64_t head = task / blocks, first = (blocks - 1 - task % blocks) * kQueries;
    if (narrow)
      forward_block<bfloat16>(args, head, first);
    else
      forward_block<float>(args, head, first);
  });
}

void attention_backward(const AttentionBackwardArgs& args) {
  if (args.length == 0) return;
  const bool narrow = args.q.dtype == DType::kBFloat16;
  parallel(args.heads, [&](int64_t head) {
    if (narrow)
      backward_head<bfloat16>(args, head);
    else
      backward_head<float>(args, head);
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
