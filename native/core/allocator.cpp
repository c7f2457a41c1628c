#include "core/allocator.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/stream.h"

namespace birkhoff {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kSegment = size_t{32} << 20;

bool wants_direct() {
#ifdef BIRKHOFF_SANITIZE
  return true;
#else
  const char* kind = std::getenv("BIRKHOFF_ALLOCATOR");
  return kind && !std::strcmp(kind, "direct");
#endif
}

size_t round_up(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

uint64_t Allocator::Pool::next_id() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

Allocator::Allocator(MemoryFunctions memory, Stream& stream)
    : memory_(memory), stream_(stream), direct_(wants_direct()) {}

Allocator::~Allocator() {
  release_free_segments();
}

void* Allocator::allocate(int64_t bytes, Pool* pool) {
  if (!pool) pool = &common_;
  const size_t size = std::max(round_up(static_cast<size_t>(bytes), kAlignment), kAlignment);
  std::lock_guard lock(mutex_);
  const bool over_budget = budget_ >= 0 && stats_.bytes + static_cast<int64_t>(size) > budget_;
  const bool injected = fail_after_ == 0;
  if (fail_after_ >= 0) --fail_after_;
  if (over_budget || injected)
    throw Error(kOutOfMemoryError, "out of memory: " + std::to_string(bytes) + " bytes wanted, " +
                                       std::to_string(stats_.bytes) + " live" +
                                       (over_budget ? ", budget " + std::to_string(budget_) : ""));
  Block* const block = direct_ ? acquire_alone(size, pool) : take(size, pool);
  used_.emplace(block->data, block);
  stats_.bytes += static_cast<int64_t>(size);
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.bytes);
  return block->data;
}

void Allocator::free(void* data) noexcept {
  std::lock_guard lock(mutex_);
  const auto found = used_.find(data);
  if (found == used_.end()) return;
  Block* block = found->second;
  used_.erase(found);
  stats_.bytes -= static_cast<int64_t>(block->size);
  direct_ ? release_alone(block) : give_back(block);
}

Allocator::Block* Allocator::acquire_alone(size_t size, Pool* pool) {
  return new Block{static_cast<char*>(acquire(size)), size, false, nullptr, nullptr, pool};
}

void Allocator::release_alone(Block* block) {
  if (block->pool != &common_) {
    block->pool->free.insert(block);  // the graph still writes to it
    return;
  }
  stats_.reserved_bytes -= static_cast<int64_t>(block->size);
  // Released behind its last reader, or with the queue where that is dropped.
  stream_.submit([data = std::shared_ptr<void>(block->data, [memory = memory_, size = block->size](void* data) {
                    memory.release(memory.context, data, size);
                  })] {});
  delete block;
}

Allocator::Block* Allocator::take(size_t size, Pool* pool) {
  Block key{nullptr, size, true, nullptr, nullptr, pool};
  auto& available = pool->free;
  auto found = available.lower_bound(&key);
  if (found == available.end()) found = available.insert(add_segment(size, pool)).first;
  Block* block = *found;
  available.erase(found);
  if (block->size - size >= kAlignment) {
    Block* rest = new Block{block->data + size, block->size - size, true, block, block->next, pool};
    if (block->next) block->next->previous = rest;
    block->next = rest;
    block->size = size;
    available.insert(rest);
  }
  block->free = false;
  return block;
}

void Allocator::give_back(Block* block) {
  auto& available = block->pool->free;
  block->free = true;
  const auto merge_next = [](Block* a) {
    Block* b = a->next;
    a->size += b->size;
    a->next = b->next;
    if (b->next) b->next->previous = a;
    delete b;
  };
  if (block->next && block->next->free) {
    available.erase(block->next);
    merge_next(block);
  }
  if (block->previous && block->previous->free) {
    block = block->previous;
    available.erase(block);
    merge_next(block);
  }
  available.insert(block);
}

void Allocator::trim() {
  std::lock_guard lock(mutex_);
  release_cached();
}

void Allocator::dissolve(Pool& pool) noexcept {
  std::lock_guard lock(mutex_);
  for (auto& [data, block] : used_)
    if (block->pool == &pool) block->pool = &common_;
  for (Block* block : pool.free) block->pool = &common_;
  common_.free.merge(pool.free);
}

Allocator::Block* Allocator::add_segment(size_t bytes, Pool* pool) {
  // Large tensors get segments of their own size; small ones share.
  const size_t size = bytes >= kSegment / 4 ? round_up(bytes, size_t{2} << 20) : kSegment;
  return new Block{static_cast<char*>(acquire(size)), size, true, nullptr, nullptr, pool};
}

// Where the system has no more, what is cached goes first. Throws Error(kOutOfMemoryError).
void* Allocator::acquire(size_t size) {
  void* data = memory_.acquire(memory_.context, size);
  if (!data) {
    release_cached();
    data = memory_.acquire(memory_.context, size);
  }
  if (!data)
    throw Error(kOutOfMemoryError, "out of memory: " + std::to_string(size) + " bytes wanted, " +
                                       std::to_string(stats_.bytes) + " live, the system has no more");
  stats_.reserved_bytes += static_cast<int64_t>(size);
  return data;
}

// Cached memory may still be read by queued work. The lock stays: a block that another thread frees meanwhile would be
// released while the work it has just queued still needs it.
void Allocator::release_cached() {
  stream_.drain();
  release_free_segments();
  if (memory_.trim) memory_.trim(memory_.context);
}

void Allocator::release_free_segments() {
  for (auto it = common_.free.begin(); it != common_.free.end();) {
    Block* block = *it;
    if (block->previous || block->next) {
      ++it;
      continue;
    }
    it = common_.free.erase(it);
    memory_.release(memory_.context, block->data, block->size);
    stats_.reserved_bytes -= static_cast<int64_t>(block->size);
    delete block;
  }
}

MemoryStats Allocator::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

void Allocator::reset_peak() {
  std::lock_guard lock(mutex_);
  stats_.peak_bytes = stats_.bytes;
}

void Allocator::set_budget(int64_t bytes) {
  std::lock_guard lock(mutex_);
  budget_ = bytes;
}

void Allocator::fail_after(int64_t allocations) {
  std::lock_guard lock(mutex_);
  fail_after_ = allocations;
}

void Allocator::count_tensors(int64_t change) {
  std::lock_guard lock(mutex_);
  stats_.tensors += change;
}

}  // namespace birkhoff
