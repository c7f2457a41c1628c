// Embedding on CUDA; see ops/embedding.h. Backward without atomics: each token finds the next one with its index, and
// the first of every chain adds up the chain, in order.
#include "cuda/index_fault.h"
#include "cuda/math.h"
#include "ops/embedding.h"

namespace birkhoff::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads)
    embedding_forward_kernel(const int32_t* indices, const T* weight, T* out, int64_t size, int64_t vocabulary,
                             int64_t channels, IndexFault* fault) {
  const int64_t step = int64_t{kThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += step) {
    const int64_t t = i / channels;
    const int32_t index = indices[t];
    const bool valid = index >= 0 && index < vocabulary;
    if (!valid) report_index(fault, t, index, vocabulary);
    out[i] = valid ? weight[index * channels + i % channels] : T{};
  }
}

// next[t]: the following token of the same index, or -1; first[t]: whether no earlier one has it.
__global__ void __launch_bounds__(kThreads) chain_kernel(const int32_t* indices, int64_t tokens, int64_t vocabulary,
                                                         int32_t* next, int32_t* first, IndexFault* fault) {
  const int64_t t = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (t >= tokens) return;
  const int32_t index = indices[t];
  const bool valid = index >= 0 && index < vocabulary;
  if (!valid) report_index(fault, t, index, vocabulary);
  int64_t after = t + 1, before = t - 1;
  while (after < tokens && indices[after] != index) ++after;
  while (before >= 0 && indices[before] != index) --before;
  next[t] = after < tokens ? static_cast<int32_t>(after) : -1;
  first[t] = valid && before < 0;
}

template <class T>
__global__ void __launch_bounds__(kThreads) clear_kernel(T* out, int64_t size) {
  const int64_t step = int64_t{kThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += step) out[i] = T{};
}

template <class G, class T>
__global__ void __launch_bounds__(kThreads)
    sum_chains_kernel(const int32_t* indices, const int32_t* next, const int32_t* first, const G* grad_out,
                      T* grad_weight, int64_t channels) {
  const int64_t start = blockIdx.x;
  if (!first[start]) return;
  for (int64_t c = threadIdx.x; c < channels; c += blockDim.x) {
    float sum = 0.0f;
    for (int64_t t = start; t >= 0; t = next[t]) sum += to_float(grad_out[t * channels + c]);
    from_float(sum, grad_weight[indices[start] * channels + c]);
  }
}

}  // namespace

void embedding_forward(const EmbeddingForwardArgs& args) {
  if (args.out.size == 0) return;
  with_float_type(args.weight.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(embedding_forward_kernel<T>, grid_for(args.out.size, kThreads), kThreads, 0, args.indices.i32(),
           args.weight.as<T>(), args.out.as<T>(), args.out.size, args.vocabulary, args.channels,
           current().index_fault(IndexedOp::kEmbedding));
  });
}

void embedding_backward(const EmbeddingBackwardArgs& args) {
  if (args.grad_weight.size == 0) return;
  int32_t* const next = static_cast<int32_t*>(args.scratch);
  int32_t* const first = next + args.tokens;
  if (args.tokens > 0)
    launch(chain_kernel, static_cast<unsigned>(ceil_div(args.tokens, kThreads)), kThreads, 0, args.indices.i32(),
           args.tokens, args.vocabulary, next, first, current().index_fault(IndexedOp::kEmbedding));
  with_float_type(args.grad_out.dtype, [&](auto* grad) {
    with_float_type(args.grad_weight.dtype, [&](auto* weight) {
      using G = std::remove_pointer_t<decltype(grad)>;
      using T = std::remove_pointer_t<decltype(weight)>;
      launch(clear_kernel<T>, grid_for(args.grad_weight.size, kThreads), kThreads, 0, args.grad_weight.as<T>(),
             args.grad_weight.size);
      if (args.tokens > 0)
        launch(sum_chains_kernel<G, T>, static_cast<unsigned>(args.tokens), kThreads, 0, args.indices.i32(), next,
               first, args.grad_out.as<G>(), args.grad_weight.as<T>(), args.channels);
    });
  });
}

}  // namespace birkhoff::cuda
