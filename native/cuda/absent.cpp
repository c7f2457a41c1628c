// In place of the CUDA backend where the addon is built without nvcc.
#include "cuda/backend.h"

namespace birkhoff::cuda {

std::vector<DeviceEntry> entries() {
  return {
      {{"cuda", "NVIDIA GPU", "this build has no CUDA kernels (nvcc was not found when it was compiled)"}, nullptr}};
}

std::string gemm_name() {
  return "none";
}

const Emulator* emulator() {
  return nullptr;
}

}  // namespace birkhoff::cuda
