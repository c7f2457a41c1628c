// Rows of C elements, one block each: eight elements per thread and pass.
#pragma once
#include "cuda/math.h"
#include "cuda/token_sums.h"

namespace birkhoff::cuda {

// Calls body(first, values of eight elements) for the thread's share of a row; elements beyond the row are zero.
template <class Body>
__device__ __forceinline__ void for_row(int64_t columns, const Body& body) {
  for (int64_t c = int64_t{threadIdx.x} * 8; c < columns; c += int64_t{blockDim.x} * 8) body(c, columns - c);
}

inline unsigned row_threads(int64_t columns) {
  const unsigned threads = threads_per_token(columns);
  return threads < 32 ? 32 : threads;
}

}  // namespace birkhoff::cuda
