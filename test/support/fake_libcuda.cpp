// A stand-in for libcuda.so.1, NVIDIA's driver: as much as the CUDA runtime needs to start it. It takes its time and finds
// no GPU. What is called is a line of the file that FAKE_CUDA_CALLS names.
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr int kNoDevice = 100, kNotFound = 500;  // CUresult

void note(const char* call) {
  const char* name = std::getenv("FAKE_CUDA_CALLS");
  FILE* const file = name ? std::fopen(name, "a") : nullptr;
  if (!file) return;
  std::fprintf(file, "%s\n", call);
  std::fclose(file);
}

__attribute__((constructor)) void loaded() {
  note("loaded");
}

}  // namespace

extern "C" {

int cuInit(unsigned) {
  note("cuInit");
  usleep(200'000);
  return kNoDevice;
}
int cuDriverGetVersion(int* version) {
  *version = 99'000;  // new enough for any runtime
  return 0;
}
int cuGetProcAddress_v2(const char* symbol, void** function, int, uint64_t, int* status) {
  *function = !std::strcmp(symbol, "cuInit")               ? reinterpret_cast<void*>(cuInit)
              : !std::strcmp(symbol, "cuDriverGetVersion") ? reinterpret_cast<void*>(cuDriverGetVersion)
              : !std::strcmp(symbol, "cuGetProcAddress")   ? reinterpret_cast<void*>(cuGetProcAddress_v2)
                                                           : nullptr;
  if (status) *status = *function ? 0 : 1;  // CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND
  return *function ? 0 : kNotFound;
}

}  // extern "C"
