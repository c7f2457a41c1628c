// Events of the compute stream that keep the time, and the trace of the kernels launched.
#include "cuda/context.h"

namespace birkhoff::cuda {

std::shared_ptr<void> Context::record_event() {
  cudaEvent_t event = nullptr;
  check(cudaEventCreate(&event), "cudaEventCreate");
  std::shared_ptr<void> owner(event, [](void* gone) { cudaEventDestroy(static_cast<cudaEvent_t>(gone)); });
  check(cudaEventRecord(event, compute), "cudaEventRecord");
  return owner;
}

double Context::elapsed_ms(const void* from, const void* to) {
  const auto event = [](const void* data) { return static_cast<cudaEvent_t>(const_cast<void*>(data)); };
  check(cudaEventSynchronize(event(from)), "cudaEventSynchronize");
  check(cudaEventSynchronize(event(to)), "cudaEventSynchronize");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, event(from), event(to)), "cudaEventElapsedTime");
  return milliseconds;
}

void Context::note_launch(const void* kernel) {
  if (!launched_) return;
  const char* name = "kernel";
#if CUDART_VERSION >= 12030 && !defined(BIRKHOFF_CUDA_EMULATED)
  if (cudaFuncGetName(&name, kernel) != cudaSuccess) cudaGetLastError();
#else
  (void)kernel;
#endif
  launched_(name);
}

}  // namespace birkhoff::cuda
