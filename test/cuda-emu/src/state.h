// State shared by the executor's own files. One device: everything here is used under its lock (host.h).
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "cuda_emu/controls.h"
#undef cudaLaunchKernelEx
#undef cudaLaunchKernel

extern "C" {
// Present only where the process runs under AddressSanitizer.
void __asan_poison_memory_region(const volatile void*, size_t) __attribute__((weak));
void __asan_unpoison_memory_region(const volatile void*, size_t) __attribute__((weak));
}

namespace cuda_emu {

inline void asan_poison(const void* start, size_t bytes) {
  if (__asan_poison_memory_region) __asan_poison_memory_region(start, bytes);
}
inline void asan_unpoison(const void* start, size_t bytes) {
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(start, bytes);
}

constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kSharedCapacity = 512 * 1024;  // of the arena; gaps between variables take room too
constexpr size_t kSharedLimit = 227 * 1024, kStaticSharedLimit = 48 * 1024;
constexpr size_t kCellBytes = 64;
constexpr uint8_t kDynamicOwner = 255;
constexpr unsigned kMaxThreads = 1024, kWarp = 32, kMaxWarps = kMaxThreads / kWarp, kNamedBarriers = 16;

enum Order { kForward, kReverse, kRandom };
struct Config {
  int order = kForward;
  uint64_t seed = 1;
  bool lazy_streams = false, strict = true, isolate = false, abort_on_error = false;
  bool truncate = true;  // mma rounds as a GPU's tensor cores do, see matrix.cpp
};
extern Config config;
extern int sticky_error;  // the context is unusable until cuda_emu_reset
extern bool checked;      // some kernel file was compiled with -fsanitize=thread
uint64_t random_bits();
void seed_random(uint64_t seed);
inline unsigned random_below(unsigned n) {
  return static_cast<unsigned>((random_bits() >> 32) * n >> 32);
}

// ---- one thread of the running block ----
enum LaneState : uint8_t { kReady, kAtBarrier, kInCollective, kDone };

struct WarpOperation {
  const char* name;
  void (*run)(void** payload, unsigned participants);
  bool orders;  // memory accesses before it happen before those after it
};
struct Copy {  // one cp.async
  void* target;
  const void* source;
  int bytes, source_bytes;
};
struct alignas(64) Lane {
  char* stack;
  void* stack_pointer;
  unsigned thread;  // linear number in the block
  unsigned lane, warp;
  uint3 position;
  LaneState state;
  uint16_t clock;  // synchronisations with other threads since the last full barrier
  // what it waits for
  int barrier, barrier_result;
  unsigned mask, participants;
  void* payload;
  const WarpOperation* operation;
  Site site;
  void* asan_stack;
  std::vector<Copy> copies;           // asynchronous copies not waited for ...
  std::vector<unsigned> copy_groups;  // ... and where each committed group of them ends
};
struct Barrier {
  int arrived = 0, expected = -1, votes = 0;
  Combine combine = kNone;
  Site site{};
};
struct SharedVariable {
  const void* key;
  size_t offset, bytes;
  Site site;
};

struct Cell;

struct Device {
  std::vector<Lane> lanes = std::vector<Lane>(kMaxThreads);
  char* stacks = nullptr;

  // the running kernel
  Body* body = nullptr;
  const void* function = nullptr;
  uint32_t launch = 0;
  bool failed = false;

  // the running block
  uint32_t block_serial = 0, block_index = 0, full_barriers = 0;
  unsigned threads = 0, warps = 0, alive = 0;
  unsigned warp_alive[kMaxWarps], warp_waiting[kMaxWarps], warp_ready[kMaxWarps];
  Barrier barriers[kNamedBarriers];
  unsigned barriers_in_use = 0;  // a bit each

  // shared memory
  char* shared = nullptr;
  uint8_t* shared_owner = nullptr;       // number of the variable, per 4 bytes; 255: dynamic
  size_t shared_end[kDynamicOwner + 1];  // where the variable with that number ends
  Cell* shared_cells = nullptr;
  uint8_t* shared_written = nullptr;
  size_t shared_used = 0, dynamic_bytes = 0;
  size_t shared_limit = 0;  // static and dynamic together
  std::vector<SharedVariable> variables;
};
extern Device device;
// The lane that this OS thread runs, null in host code.
extern __thread Lane* current __attribute__((tls_model("initial-exec")));
// The same while it is in the kernel's own code, null in the executor's: the linker may have given the executor checked
// copies of the standard library's templates.
extern __thread Lane* checking __attribute__((tls_model("initial-exec")));

// For every function that kernels call and that is more than arithmetic.
struct InExecutor {
  Lane* const before = checking;
  InExecutor() { checking = nullptr; }
  ~InExecutor() { checking = before; }
};

void run_kernel(const cudaLaunchConfig_t& launch, const void* function, Body& body);

}  // namespace cuda_emu
