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
  // Gives the system what was released and what the device keeps beside it. Waits for the device; null: nothing to do.
  void (*trim)(void* context);
};

struct MemoryStats {
  int64_t tensors = 0, bytes = 0, peak_bytes = 0, reserved_bytes = 0;
};

class Allocator {
 private:
  struct Block;
  struct BySize {
    bool operator()(const Block* a, const Block* b) const;
  };

 public:
  // Memory that only some allocations share. A graph has one of its own, because its work writes to the same addresses
  // at every launch, also to those of tensors that were disposed while it was recorded.
  class Pool {
   public:
    const uint64_t id = next_id();  // no other pool of the process has it

   private:
    friend class Allocator;
    static uint64_t next_id();
    std::set<Block*, BySize> free;
  };

  Allocator(MemoryFunctions memory, Stream& stream);
  ~Allocator();
  // Throws Error(kOutOfMemoryError). Never returns null, also for 0 bytes. pool: default the common one.
  void* allocate(int64_t bytes, Pool* pool = nullptr);
  void free(void* data) noexcept;
  // Gives memory that is cached to the system, once the stream is done with it.
  void trim();
  // What pool holds, free or not, belongs to the common pool from now on.
  void dissolve(Pool& pool) noexcept;

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
    Pool* pool;
  };
  Block* take(size_t size, Pool* pool);
  void give_back(Block* block);
  Block* acquire_alone(size_t size, Pool* pool);
  void release_alone(Block* block);
  Block* add_segment(size_t bytes, Pool* pool);
  void* acquire(size_t size);
  void release_cached();
  void release_free_segments();

  const MemoryFunctions memory_;
  Stream& stream_;
  // No reuse and no segments: a sanitizer sees every block's ends and every use after it is freed. In sanitizers'
  // builds, and with BIRKHOFF_ALLOCATOR=direct (compute-sanitizer).
  const bool direct_;
  mutable std::mutex mutex_;
  Pool common_;
  std::unordered_map<void*, Block*> used_;
  MemoryStats stats_;
  int64_t budget_ = -1;
  int64_t fail_after_ = -1;
};

inline bool Allocator::BySize::operator()(const Block* a, const Block* b) const {
  return a->size != b->size ? a->size < b->size : a->data < b->data;
}

}  // namespace birkhoff
