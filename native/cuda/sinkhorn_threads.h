// How many threads of a block find room for their Sinkhorn divisors in shared memory.
#pragma once
#include "cuda/launch.h"

namespace birkhoff::cuda {

struct SinkhornThreads {
  unsigned count;
  size_t shared_bytes;
};

inline SinkhornThreads sinkhorn_threads(int64_t n, int64_t iters, unsigned most) {
  // At most 96 KB, so that an SM with 228 KB holds two blocks.
  const size_t each = static_cast<size_t>(2 * iters * n) * sizeof(float);
  const size_t room = static_cast<size_t>(current().max_shared < 96 * 1024 ? current().max_shared : 96 * 1024);
  unsigned count = most;
  while (count * each > room) count /= 2;
  return {count, count * each};
}

}  // namespace birkhoff::cuda
