// What the rest of the addon knows of CUDA. Free of CUDA types; a build without CUDA has absent.cpp instead.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "core/device.h"

namespace birkhoff::cuda {

// The machine's GPUs, or one entry with the reason why none can be used. Never throws, creates no CUDA context.
std::vector<DeviceEntry> entries();

// Which GEMM the GPU uses, for doctor: "cuBLAS 13.0 (/usr/…/libcublas.so.13)" or "built-in (cuBLAS not found)".
std::string gemm_name();

// Controls of an executor build (test/cuda-emu); null in a real one.
struct Emulator {
  void (*configure)(int order, uint64_t seed, bool lazy, bool strict);
  void (*truncate_mma)(bool truncate);
  void (*fail_call)(int64_t countdown);
  int64_t (*calls)();
  int64_t (*live_allocations)();
  int64_t (*reserved_bytes)(int created);
  int64_t (*pinned_bytes)();
  int (*internal_dependencies)();
  int (*count)(int kind);
  const char* (*last_report)();
  void (*reset)();  // also heals the device
};
const Emulator* emulator();

}  // namespace birkhoff::cuda
