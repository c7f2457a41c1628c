// Embedding on CUDA; see ops/embedding.h. Backward writes each row of the table once and sums its tokens in their
// order, without atomics: the tokens are first sorted by index, stably, by counting for each of them how many come
// before it.
//
//   rank(t) = number of t' with (index[t'], t') < (index[t], t)
//
// Within chunks of tokens by comparing all of them, then across chunks by bisection in the sorted ones.
#include "cuda/math.h"
#include "ops/embedding.h"

namespace birkhoff::cuda {
namespace {

constexpr int kEmbeddingThreads = 256;
constexpr int kPerThread = 4;
constexpr int kChunk = kEmbeddingThreads * kPerThread;
constexpr int kColumns = 8 * 32;  // of one warp of the sum

// Word: 16 bytes of a row where every row is whole ones, else one element.
template <class Word>
__global__ void __launch_bounds__(kEmbeddingThreads)
    gather_kernel(const int32_t* indices, const Word* weight, Word* out, int64_t total, int64_t width,
                  int64_t vocabulary, IndexErrors::Word* bad) {
  const int64_t step = int64_t{kEmbeddingThreads} * gridDim.x;
#pragma unroll 2
  for (int64_t i = int64_t{blockIdx.x} * kEmbeddingThreads + threadIdx.x; i < total; i += step) {
    const int64_t t = i / width, at = i % width;
    const int32_t index = indices[t];
    if (index >= 0 && index < vocabulary) {
      out[i] = weight[index * width + at];
    } else {
      out[i] = Word{};
      if (at == 0) report_index(bad, t, index);
    }
  }
}

struct Sorted {
  int32_t *index, *token;
};

// Each chunk by itself. An index out of range goes to the end, as `vocabulary`.
__global__ void __launch_bounds__(kEmbeddingThreads)
    sort_chunks_kernel(const int32_t* indices, int64_t tokens, int32_t vocabulary, const Sorted chunks,
                       IndexErrors::Word* bad) {
  BIRKHOFF_SHARED(int32_t, keys, [kChunk]);
  const int64_t first = int64_t{blockIdx.x} * kChunk;
  const int count = static_cast<int>(tokens - first < kChunk ? tokens - first : kChunk);
  int32_t own[kPerThread] = {};
  int rank[kPerThread] = {};
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int i = j * kEmbeddingThreads + threadIdx.x;
    if (i >= count) continue;
    own[j] = indices[first + i];
    if (own[j] < 0 || own[j] >= vocabulary) {
      report_index(bad, first + i, own[j]);
      own[j] = vocabulary;
    }
    keys[i] = own[j];
  }
  __syncthreads();
#pragma unroll 4
  for (int other = 0; other < count; ++other) {
    const int32_t key = keys[other];
#pragma unroll
    for (int j = 0; j < kPerThread; ++j)
      rank[j] += key < own[j] || (key == own[j] && other < j * kEmbeddingThreads + static_cast<int>(threadIdx.x));
  }
#pragma unroll
  for (int j = 0; j < kPerThread; ++j) {
    const int i = j * kEmbeddingThreads + threadIdx.x;
    if (i >= count) continue;
    chunks.index[first + rank[j]] = own[j];
    chunks.token[first + rank[j]] = static_cast<int32_t>(first + i);
  }
}

// How many of the sorted keys are below `key`, which may be a half above an integer: 2 key + 1.
__device__ __forceinline__ int count_below(const int32_t* keys, int count, int64_t twice_key) {
  int low = 0, high = count;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (2 * int64_t{keys[middle]} < twice_key)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

__global__ void __launch_bounds__(kEmbeddingThreads)
    merge_chunks_kernel(const Sorted chunks, int64_t tokens, const Sorted sorted) {
  const int64_t i = int64_t{blockIdx.x} * kEmbeddingThreads + threadIdx.x;
  if (i >= tokens) return;
  const int64_t key = chunks.index[i], own = i / kChunk;
  int64_t rank = i % kChunk;
  for (int64_t chunk = 0; chunk * kChunk < tokens; ++chunk) {
    if (chunk == own) continue;
    const int64_t first = chunk * kChunk;
    const int count = static_cast<int>(tokens - first < kChunk ? tokens - first : kChunk);
    // Equal ones of earlier chunks come before.
    rank += count_below(chunks.index + first, count, 2 * key + (chunk < own ? 1 : 0));
  }
  sorted.index[rank] = static_cast<int32_t>(key);
  sorted.token[rank] = chunks.token[i];
}

// Per row of the table: its tokens in the sorted order. Both are -1 for a row without tokens.
struct Ranges {
  int32_t *begin, *end;
};

__global__ void __launch_bounds__(kEmbeddingThreads)
    mark_rows_kernel(const Sorted sorted, int64_t tokens, int32_t vocabulary, const Ranges ranges) {
  const int64_t i = int64_t{blockIdx.x} * kEmbeddingThreads + threadIdx.x;
  if (i >= tokens) return;
  const int32_t index = sorted.index[i];
  if (index >= vocabulary) return;
  if (i == 0 || sorted.index[i - 1] != index) ranges.begin[index] = static_cast<int32_t>(i);
  if (i + 1 == tokens || sorted.index[i + 1] != index) ranges.end[index] = static_cast<int32_t>(i + 1);
}

// A warp per row of the table and 256 columns.
template <bool Vector, class G, class T>
__global__ void __launch_bounds__(kEmbeddingThreads)
    sum_kernel(const G* grad_out, const int32_t* sorted_tokens, const Ranges ranges, T* grad_weight, int64_t channels,
               int64_t parts, int64_t total) {
  constexpr int kWarps = kEmbeddingThreads / 32;
  const int64_t step = int64_t{gridDim.x} * kWarps;
  for (int64_t task = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; task < total; task += step) {
    const int64_t v = task / parts, c = task % parts * kColumns + threadIdx.x % 32 * 8, count = channels - c;
    if (c >= channels) continue;
    float sum[8] = {};
    const int32_t end = ranges.end[v];
#pragma unroll 4
    for (int32_t i = ranges.begin[v]; i < end; ++i) {
      float row[8];
      load_some<Vector>(grad_out + sorted_tokens[i] * channels + c, count, row);
#pragma unroll
      for (int k = 0; k < 8; ++k) sum[k] += row[k];
    }
    store_some<Vector>(grad_weight + v * channels + c, count, sum);
  }
}

template <class Word>
void gather(const EmbeddingForwardArgs& args, int64_t width) {
  IndexErrors::Word* const bad = current().index_errors.word("embedding", "indices", args.vocabulary);
  const int64_t total = args.tokens * width;
  launch(gather_kernel<Word>, grid_for(total, kEmbeddingThreads), kEmbeddingThreads, 0, args.indices.i32(),
         args.weight.as<Word>(), args.out.as<Word>(), total, width, args.vocabulary, bad);
}

}  // namespace

void embedding_forward(const EmbeddingForwardArgs& args) {
  if (args.out.size == 0) return;
  const int64_t row_bytes = args.channels * dtype_bytes(args.weight.dtype);
  if (row_bytes % 16 == 0 && aligned16(args.weight, args.out))
    gather<uint4>(args, row_bytes / 16);
  else if (args.weight.dtype == DType::kBFloat16)
    gather<uint16_t>(args, args.channels);
  else
    gather<uint32_t>(args, args.channels);
}

void embedding_backward(const EmbeddingBackwardArgs& args) {
  if (args.grad_weight.size == 0) return;
  const int64_t tokens = args.tokens, parts = ceil_div(args.channels, kColumns), total = args.vocabulary * parts;
  const int32_t vocabulary = static_cast<int32_t>(args.vocabulary);
  int32_t* const scratch = static_cast<int32_t*>(args.scratch);
  const Ranges ranges{scratch, scratch + args.vocabulary};
  int32_t* const orders = scratch + 2 * args.vocabulary;
  const Sorted chunks{orders, orders + tokens}, sorted{orders + 2 * tokens, orders + 3 * tokens};
  Context& context = current();
  context.check(cudaMemsetAsync(scratch, 0xff, static_cast<size_t>(8 * args.vocabulary), context.compute),
                "cudaMemsetAsync");
  if (tokens > 0) {
    const auto blocks = static_cast<unsigned>(ceil_div(tokens, kEmbeddingThreads));
    launch(sort_chunks_kernel, static_cast<unsigned>(ceil_div(tokens, kChunk)), kEmbeddingThreads, 0,
           args.indices.i32(), tokens, vocabulary, chunks,
           context.index_errors.word("embedding", "indices", args.vocabulary));
    launch(merge_chunks_kernel, blocks, kEmbeddingThreads, 0, chunks, tokens, sorted);
    launch(mark_rows_kernel, blocks, kEmbeddingThreads, 0, sorted, tokens, vocabulary, ranges);
  }
  with_float_type(args.grad_out.dtype, [&](auto* grad) {
    with_float_type(args.grad_weight.dtype, [&](auto* weight) {
      using G = std::remove_pointer_t<decltype(grad)>;
      using T = std::remove_pointer_t<decltype(weight)>;
      with_bool(args.channels % 8 == 0 && aligned16(args.grad_out, args.grad_weight), [&](auto vector) {
        launch(sum_kernel<vector(), G, T>, grid_for(total, kEmbeddingThreads / 32), kEmbeddingThreads, 0,
               args.grad_out.as<G>(), sorted.token, ranges, args.grad_weight.as<T>(), args.channels, parts, total);
      });
    });
  });
}

}  // namespace birkhoff::cuda
