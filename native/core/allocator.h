// A caching allocator per device. Blocks are split from large segments, merged when freed, and reused in stream order:
// a block freed by JavaScript may be handed out at once, because whatever writes to it next is queued behind its last
// reader. So the peak depends on the program alone, never on how far the queue has run.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

namespace birkhoff {

class Stream;

struct MemoryFunctions {
  void* context;
  void* (*acquire)(void* context, size_t bytes);  // null on failure; 64-byte aligned
  void (*release)(void* context, void* data, size_t bytes);
};

struct MemoryStats {
  int64_t tensors = 0, bytes = 0, peak_bytes = 0, reserved_bytes = 0;
};

class Allocator {
 public:
  Allocator(MemoryFunctions memory, Stream& stream) : memory_(memory), stream_(stream) {}
  ~Allocator();
  // Throws Error(kOutOfMemoryError). Never returns null, also for 0 bytes.
  void* allocate(int64_t bytes);
  void free(void* data) noexcept;

  MemoryStats stats() const;
  void reset_peak();
  void set_budget(int64_t bytes);        // below 0: none
  void fail_after(int64_t allocations);  // test hook: that many succeed, the next one fails; below 0: off
  void count_tensors(int64_t change);

 private:
  struct Block {
    char* data;
    size_t size;
    bool free;
    Block *previous, *next;  // neighbours in the segment
  };
  struct BySize {
    bool operator()(const Block* a, const Block* b) const {
      return a->size != b->size ? a->size < b->size : a->data < b->data;
    }
  };
  Block* add_segment(size_t bytes);
  void release_free_segments();

  const MemoryFunctions memory_;
  Stream& stream_;
  mutable std::mutex mutex_;
  std::set<Block*, BySize> free_;
  std::unordered_map<void*, Block*> used_;
  MemoryStats stats_;
  int64_t budget_ = -1;
  int64_t fail_after_ = -1;
};

}  // namespace birkhoff
