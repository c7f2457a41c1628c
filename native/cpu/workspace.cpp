#include "cpu/workspace.h"

#include <cstdlib>
#include <string>

#include "core/error.h"

namespace birkhoff::cpu {
namespace {
alignas(64) thread_local float gemm_memory[kGemmWorkspace];
alignas(64) thread_local float kernel_memory[kKernelWorkspace];

struct TileMemory {
  float* data = nullptr;
  int64_t floats = 0;
  ~TileMemory() { std::free(data); }
};
thread_local TileMemory tile_memory;
}  // namespace

float* tile_workspace(int64_t floats) {
  if (floats > tile_memory.floats) {
    std::free(tile_memory.data);
    tile_memory.floats = 0;
    tile_memory.data = static_cast<float*>(std::aligned_alloc(64, (static_cast<size_t>(floats) * 4 + 63) / 64 * 64));
    if (!tile_memory.data)
      throw Error(kOutOfMemoryError, "out of memory: a thread's tile of " + std::to_string(4 * floats) + " bytes");
    tile_memory.floats = floats;
  }
  return tile_memory.data;
}

float* gemm_workspace() {
  return gemm_memory;
}
float* kernel_workspace() {
  return kernel_memory;
}

}  // namespace birkhoff::cpu
