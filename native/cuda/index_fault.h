// An index out of range, found by a kernel: remembered in host memory that the GPU writes to, and thrown at the next
// read, as on the CPU. The first position counts, so the message does not depend on the order of threads.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace birkhoff::cuda {

enum class IndexedOp : int { kEmbedding = 0, kCrossEntropy = 1 };

struct IndexFault {
  unsigned long long first;  // position and value, 32 bits each; ~0: none
  unsigned long long count;  // of valid indices
};

#if defined(__CUDACC__) || defined(BIRKHOFF_CUDA_EMULATED)
__device__ __forceinline__ void report_index(IndexFault* fault, int64_t position, int32_t value, int64_t count) {
  atomicMin(&fault->first, static_cast<unsigned long long>(position) << 32 | static_cast<uint32_t>(value));
  atomicExch(&fault->count, static_cast<unsigned long long>(count));
}
#endif

}  // namespace birkhoff::cuda
