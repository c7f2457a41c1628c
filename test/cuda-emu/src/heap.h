// Device memory and pinned host memory.
#pragma once
#include <set>

#include "state.h"

namespace cuda_emu {

struct MemoryPool {
  uint64_t release_threshold = 0, used = 0, used_high = 0, kept_bytes = 0;
  std::multiset<size_t> kept;  // pieces that were freed and are still the pool's; never joined, as they may lie apart
  int reuse[3] = {1, 1, 1};
  uint64_t reserved() const { return used + kept_bytes; }
};
extern MemoryPool default_pool;

struct Allocation {
  uintptr_t low, high;          // what was asked for
  uintptr_t map_low, map_high;  // its pages, without the inaccessible one behind them
  bool live;
  Cell* cells;       // null unless checked
  uint8_t* written;  // a bit per byte, 4 bytes an entry
  MemoryPool* pool;
};

constexpr size_t kPage = 4096, kHeapBytes = size_t{32} << 30;
extern uintptr_t heap_low;            // 0 before open_heap
extern Allocation** page_allocation;  // the last allocation of each of the heap's pages, live or freed

void open_heap();
inline bool is_device(uintptr_t address) {
  return heap_low && address - heap_low < kHeapBytes;
}
inline bool is_device(const void* address) {
  return is_device(reinterpret_cast<uintptr_t>(address));
}
inline Allocation* find_allocation(uintptr_t address) {
  return page_allocation[(address - heap_low) / kPage];
}

void* allocate(size_t bytes, MemoryPool& pool);  // null: out of memory
int release(void* start);
MemoryPool* create_pool();
// Gives the device what the pool keeps beyond these bytes, as far as it is not in use.
void trim_pool(MemoryPool& pool, uint64_t bytes);
// Every pool down to its release threshold.
void trim_pools();
// Its live allocations go on as the default pool's.
void retire_pool(MemoryPool* pool);
// As if just allocated: NaN and uninitialised.
void spoil(void* start);
bool fits_allocation(const void* start, size_t bytes, const char* what);
void mark_written(const void* start, size_t bytes);
// Gives the target the initialisation of the source, both in device memory.
void copy_written(const void* target, const void* source, size_t bytes);
size_t device_bytes();           // 8 GiB, or CUDA_EMU_MEMORY
size_t device_bytes_reserved();  // by all pools

void pin(void* start, size_t bytes);
bool unpin(void* start);  // false: it was not pinned
bool is_pinned(uintptr_t address);

// While it lives, device memory can be reached; only of use with CUDA_EMU_ISOLATE.
class DeviceSection {
 public:
  DeviceSection();
  ~DeviceSection();
};

}  // namespace cuda_emu
