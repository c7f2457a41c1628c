// How Sinkhorn is launched: how many threads of a block find room for their divisors in shared memory, and whether the
// run is a long one, for which kernels of their own spend more registers.
#pragma once
#include <type_traits>

#include "cuda/launch.h"
#include "ops/sinkhorn.h"

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

template <int n, class Body>
void with_long(int64_t iters, const Body& body) {
  if constexpr (kPlain<n> < kMaxSinkhornIters)
    if (iters > kPlain<n>) return body(std::true_type{});
  body(std::false_type{});
}

}  // namespace birkhoff::cuda
