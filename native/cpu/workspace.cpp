#include "cpu/workspace.h"

#include <cstdlib>
#include <string>

#include "core/error.h"

namespace birkhoff::cpu {
namespace {
// On the heap, not in thread-local storage itself: libraries that are loaded later share a small room for that.
struct Memory {
  float* data = nullptr;
  int64_t floats = 0;
  ~Memory() { std::free(data); }

  float* at_least(int64_t wanted) {
    if (wanted > floats) {
      std::free(data);
      floats = 0;
      data = static_cast<float*>(std::aligned_alloc(64, (static_cast<size_t>(wanted) * 4 + 63) / 64 * 64));
      if (!data)
        throw Error(kOutOfMemoryError, "out of memory: a thread's tile of " + std::to_string(4 * wanted) + " bytes");
      floats = wanted;
    }
    return data;
  }
};
thread_local Memory gemm_memory, kernel_memory, tile_memory;
}  // namespace

float* tile_workspace(int64_t floats) {
  return tile_memory.at_least(floats);
}
float* gemm_workspace() {
  return gemm_memory.at_least(kGemmWorkspace);
}
float* kernel_workspace() {
  return kernel_memory.at_least(kKernelWorkspace);
}

}  // namespace birkhoff::cpu
