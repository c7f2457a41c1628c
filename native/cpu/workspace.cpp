#include "cpu/workspace.h"

namespace birkhoff::cpu {
namespace {
alignas(64) thread_local float gemm_memory[kGemmWorkspace];
alignas(64) thread_local float kernel_memory[kKernelWorkspace];
}  // namespace

float* gemm_workspace() {
  return gemm_memory;
}
float* kernel_workspace() {
  return kernel_memory;
}

}  // namespace birkhoff::cpu
