// Embedding on CPU. Backward writes each row of the table once: the tokens of a row are chained beforehand, in order,
// so that the sum needs neither atomics nor a float32 copy of the table.
#include "core/raise.h"
#include "cpu/kernels.h"
#include "cpu/rows.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int64_t kEmbeddingsPerTask = 1 << 14;
constexpr int kVectors = 4;  // columns summed in registers: kVectors * W

template <class G, class T>
void sum_rows(const EmbeddingBackwardArgs& args, const G* grad_out, T* grad_weight, const int32_t* first,
              const int32_t* next) {
  const int64_t channels = args.channels;
  constexpr int64_t kColumns = kVectors * W;
  const int64_t blocks = ceil_div(channels, kColumns);
  const int64_t rows_per_task = max64(1, kEmbeddingsPerTask / max64(channels, 1));
  parallel(ceil_div(args.vocabulary, rows_per_task), [&](int64_t task) {
    const int64_t end = min64(args.vocabulary, (task + 1) * rows_per_task);
    for (int64_t v = task * rows_per_task; v < end; ++v)
      for (int64_t block = 0; block < blocks; ++block) {
        const int64_t column = block * kColumns, count = min64(kColumns, channels - column);
        vf sum[kVectors] = {};
        for (int32_t t = first[v]; t >= 0; t = next[t]) {
          const G* row = grad_out + t * channels + column;
          if (count == kColumns) {
#pragma GCC unroll 4
            for (int i = 0; i < kVectors; ++i) sum[i] = sum[i] + load(row + i * W);
          } else {
            for (int i = 0; i * W < count; ++i) sum[i] = sum[i] + load_upto(row + i * W, min64(W, count - i * W));
          }
        }
        T* out = grad_weight + v * channels + column;
        for (int i = 0; i * W < count; ++i) store_upto(out + i * W, sum[i], min64(W, count - i * W));
      }
  });
}

}  // namespace

void embedding_forward(const EmbeddingForwardArgs& args) {
  const int32_t* indices = args.indices.i32();
  const int64_t row_bytes = args.channels * dtype_bytes(args.weight.dtype);
  const int64_t per_task = max64(1, kEmbeddingsPerTask / max64(args.channels, 1));
  parallel(ceil_div(args.tokens, per_task), [&](int64_t task) {
    const int64_t end = min64(args.tokens, (task + 1) * per_task);
    for (int64_t t = task * per_task; t < end; ++t) {
      const int64_t index = indices[t];
      if (index < 0 || index >= args.vocabulary) raise_index("embedding", "indices", t, index, args.vocabulary);
      memcpy(args.out.as<char>() + t * row_bytes, args.weight.as<char>() + index * row_bytes,
             static_cast<size_t>(row_bytes));
    }
  });
}

void embedding_backward(const EmbeddingBackwardArgs& args) {
  if (args.channels == 0) return;
  int32_t* first = static_cast<int32_t*>(args.scratch);
  int32_t* next = first + args.vocabulary;
  for (int64_t v = 0; v < args.vocabulary; ++v) first[v] = -1;
  const int32_t* indices = args.indices.i32();
  for (int64_t t = args.tokens - 1; t >= 0; --t) {
    const int64_t index = indices[t];
    if (index < 0 || index >= args.vocabulary) raise_index("embedding", "indices", t, index, args.vocabulary);
    next[t] = first[index];
    first[index] = static_cast<int32_t>(t);
  }
  with_float_type(args.grad_out.dtype, [&](auto* grad) {
    with_float_type(args.grad_weight.dtype, [&](auto* weight) {
      sum_rows(args, static_cast<decltype(grad)>(args.grad_out.data),
               static_cast<decltype(weight)>(args.grad_weight.data), first, next);
    });
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
