// Sinkhorn on CPU: one token per vector lane, everything in registers; see ops/sinkhorn.h for the maths.
#include "cpu/kernels.h"
#include "cpu/streams.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int64_t kTokensPerTask = 512;  // a multiple of W

// The matrices of up to W tokens, transposed into one vector per entry.
template <int N>
BIRKHOFF_INLINE void load_matrices(const float* source, int64_t count, vf (&m)[N * N]) {
  float lanes[N * N][W] = {};
  for (int64_t t = 0; t < count; ++t)
    for (int k = 0; k < N * N; ++k) lanes[k][t] = source[t * N * N + k];
  for (int k = 0; k < N * N; ++k) m[k] = load(lanes[k]);
}

template <int N>
BIRKHOFF_INLINE void store_matrices(float* target, int64_t count, const vf (&m)[N * N]) {
  float lanes[N * N][W];
  for (int k = 0; k < N * N; ++k) store(lanes[k], m[k]);
  for (int64_t t = 0; t < count; ++t)
    for (int k = 0; k < N * N; ++k) target[t * N * N + k] = lanes[k][t];
}

template <int N, class Body>
BIRKHOFF_INLINE void for_token_vectors(int64_t tokens, const Body& body) {
  parallel(ceil_div(tokens, kTokensPerTask), [&](int64_t task) {
    const int64_t end = min64(tokens, (task + 1) * kTokensPerTask);
    for (int64_t t = task * kTokensPerTask; t < end; t += W) body(t * N * N, min64(W, end - t));
  });
}

struct Logits {
  const vf* values;
  MHC_HD vf operator()(int k) const { return values[k]; }
};

template <int N>
void forward(const SinkhornForwardArgs& args) {
  for_token_vectors<N>(args.tokens, [&](int64_t offset, int64_t count) {
    vf m[N * N], logits[N * N];
    load_matrices<N>(args.logits.f32() + offset, count, logits);
    memcpy(m, logits, sizeof m);
    sinkhorn_forward<N>(m, Logits{logits}, static_cast<int>(args.iters), broadcast(static_cast<float>(args.eps)),
                        static_cast<Convention>(args.convention), NoSums{});
    store_matrices<N>(args.res.f32() + offset, count, m);
  });
}

template <int N>
void backward(const SinkhornBackwardArgs& args) {
  for_token_vectors<N>(args.tokens, [&](int64_t offset, int64_t count) {
    vf m[N * N], logits[N * N], g[N * N], sums[2 * kMaxSinkhornIters * N];
    const vf eps = broadcast(static_cast<float>(args.eps));
    const auto convention = static_cast<Convention>(args.convention);
    load_matrices<N>(args.logits.f32() + offset, count, logits);
    memcpy(m, logits, sizeof m);
    load_matrices<N>(args.grad_res.f32() + offset, count, g);
    sinkhorn_forward<N>(m, Logits{logits}, static_cast<int>(args.iters), eps, convention, Sums<vf>{sums});
    sinkhorn_backward<N>(m, g, Logits{logits}, static_cast<int>(args.iters), eps, convention, Sums<vf>{sums});
    store_matrices<N>(args.grad_logits.f32() + offset, count, g);
  });
}

}  // namespace

void sinkhorn_forward(const SinkhornForwardArgs& args) {
  with_streams(args.n, [&](auto n) { forward<n()>(args); });
}

void sinkhorn_backward(const SinkhornBackwardArgs& args) {
  with_streams(args.n, [&](auto n) { backward<n()>(args); });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
