// Sinkhorn on CUDA: one thread per matrix, everything in registers; see ops/sinkhorn.h for the maths. Backward keeps
// the sums of its forward in shared memory, thread beside thread, and rewinds the iterates: no history in memory.
#include "cuda/math.h"
#include "cuda/sinkhorn_threads.h"
#include "ops/sinkhorn.h"

namespace birkhoff::cuda {
namespace {

constexpr int kSinkhornThreads = 128;

// Size consecutive floats of one thread; vector: at a 16-byte boundary.
template <int Size>
__device__ __forceinline__ void load_matrix(const float* source, float (&m)[Size], bool vector) {
  if constexpr (Size % 4 == 0)
    if (vector) {
#pragma unroll
      for (int k = 0; k < Size; k += 4) {
        const float4 v = *reinterpret_cast<const float4*>(source + k);
        m[k] = v.x, m[k + 1] = v.y, m[k + 2] = v.z, m[k + 3] = v.w;
      }
      return;
    }
#pragma unroll
  for (int k = 0; k < Size; ++k) m[k] = source[k];
}
template <int Size>
__device__ __forceinline__ void store_matrix(float* target, const float (&m)[Size], bool vector) {
  if constexpr (Size % 4 == 0)
    if (vector) {
#pragma unroll
      for (int k = 0; k < Size; k += 4) store4(target + k, m[k], m[k + 1], m[k + 2], m[k + 3]);
      return;
    }
#pragma unroll
  for (int k = 0; k < Size; ++k) target[k] = m[k];
}

template <int n>
__global__ void __launch_bounds__(kSinkhornThreads)
    sinkhorn_forward_kernel(const float* logits, float* res, int64_t tokens, int iters, float eps,
                            Convention convention, bool vector) {
  const int64_t t = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (t >= tokens) return;
  float m[n * n];
  load_matrix(logits + t * n * n, m, vector);
  const auto again = [=](int k) { return logits[t * n * n + k]; };
  sinkhorn_forward<n>(m, again, iters, eps, convention, NoSums{});
  store_matrix(res + t * n * n, m, vector);
}

template <int n>
__global__ void __launch_bounds__(kSinkhornThreads)
    sinkhorn_backward_kernel(const float* logits, const float* grad_res, float* grad_logits, int64_t tokens, int iters,
                             float eps, Convention convention, bool vector) {
  BIRKHOFF_DYNAMIC_SHARED(float, divisors);
  const int64_t t = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (t >= tokens) return;
  const Sums<float> sums{divisors + threadIdx.x, static_cast<int>(blockDim.x)};
  float m[n * n], g[n * n];
  load_matrix(logits + t * n * n, m, vector);
  const auto again = [=](int k) { return logits[t * n * n + k]; };
  sinkhorn_forward<n>(m, again, iters, eps, convention, sums);
  load_matrix(grad_res + t * n * n, g, vector);
  sinkhorn_backward<n>(m, g, again, iters, eps, convention, sums);
  store_matrix(grad_logits + t * n * n, g, vector);
}

}  // namespace

void sinkhorn_forward(const SinkhornForwardArgs& args) {
  if (args.tokens == 0) return;
  with_streams(args.n, [&](auto n) {
    launch(sinkhorn_forward_kernel<n()>, static_cast<unsigned>(ceil_div(args.tokens, kSinkhornThreads)),
           kSinkhornThreads, 0, args.logits.f32(), args.res.f32(), args.tokens, static_cast<int>(args.iters),
           static_cast<float>(args.eps), static_cast<Convention>(args.convention), aligned16(args.logits, args.res));
  });
}

void sinkhorn_backward(const SinkhornBackwardArgs& args) {
  if (args.tokens == 0) return;
  const SinkhornThreads threads = sinkhorn_threads(args.n, args.iters, kSinkhornThreads);
  with_streams(args.n, [&](auto n) {
    launch(sinkhorn_backward_kernel<n()>, static_cast<unsigned>(ceil_div(args.tokens, threads.count)), threads.count,
           threads.shared_bytes, args.logits.f32(), args.grad_res.f32(), args.grad_logits.f32(), args.tokens,
           static_cast<int>(args.iters), static_cast<float>(args.eps), static_cast<Convention>(args.convention),
           aligned16(args.logits, args.grad_res, args.grad_logits));
  });
}

}  // namespace birkhoff::cuda
