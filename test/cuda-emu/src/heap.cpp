// Every allocation has pages of its own and ends at an inaccessible one; freed addresses are not used again until 32
// GiB have been handed out. Shadow memory is recycled: its records carry launch numbers, so old ones mean nothing.
#include "heap.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>

#include "checker.h"
#include "host.h"
#include "report.h"

namespace cuda_emu {

uintptr_t heap_low = 0;
Allocation** page_allocation = nullptr;
MemoryPool default_pool;

namespace {

uintptr_t next_page = 0;
size_t live_bytes = 0, live_count = 0, pinned_bytes = 0;
std::vector<MemoryPool*> pools{&default_pool};
std::map<uintptr_t, std::unique_ptr<Allocation>> allocations;  // by map_low
std::map<uintptr_t, size_t> pinned;

void* map_pages(size_t bytes, int protection) {
  void* pages = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) {
    perror("cuda_emu: mmap");
    abort();
  }
  return pages;
}

// ---- shadow memory, in sizes of powers of two ----
constexpr size_t kShadowKept = size_t{512} << 20;
std::vector<void*> free_shadow[48];
size_t shadow_kept = 0;

unsigned shadow_class(size_t bytes) {
  const size_t cells = bytes / 4 + 1;
  return cells <= 64 ? 6 : 64 - static_cast<unsigned>(__builtin_clzll(cells - 1));
}
size_t shadow_bytes(unsigned size_class) {
  return (size_t{1} << size_class) * (sizeof(Cell) + 1);
}

void take_shadow(Allocation& allocation) {
  const unsigned size_class = shadow_class(allocation.high - allocation.low);
  auto& list = free_shadow[size_class];
  void* shadow;
  if (list.empty()) {
    shadow = map_pages(shadow_bytes(size_class), PROT_READ | PROT_WRITE);
  } else {
    shadow = list.back();
    list.pop_back();
    shadow_kept -= shadow_bytes(size_class);
  }
  allocation.cells = static_cast<Cell*>(shadow);
  allocation.written = reinterpret_cast<uint8_t*>(allocation.cells + (size_t{1} << size_class));
  memset(allocation.written, 0, (allocation.high - allocation.low) / 4 + 1);
}

void return_shadow(Allocation& allocation) {
  const unsigned size_class = shadow_class(allocation.high - allocation.low);
  if (shadow_kept + shadow_bytes(size_class) > kShadowKept) {
    munmap(allocation.cells, shadow_bytes(size_class));
  } else {
    free_shadow[size_class].push_back(allocation.cells);
    shadow_kept += shadow_bytes(size_class);
  }
  allocation.cells = nullptr;
}

// ---- pages ----
void forget_freed(uintptr_t low, uintptr_t high) {
  auto it = allocations.upper_bound(low);
  if (it != allocations.begin()) --it;
  while (it != allocations.end() && it->second->map_low < high)
    it = it->second->map_high + kPage > low ? allocations.erase(it) : std::next(it);
}

// The first live allocation that touches [low, high), if any.
const Allocation* live_between(uintptr_t low, uintptr_t high) {
  auto it = allocations.upper_bound(low);
  if (it != allocations.begin()) --it;
  for (; it != allocations.end() && it->second->map_low < high; ++it)
    if (it->second->live && it->second->map_high + kPage > low) return it->second.get();
  return nullptr;
}

// Room for `bytes` whole pages, from where the last search ended; 0: none.
uintptr_t find_room(size_t bytes) {
  const uintptr_t end = heap_low + kHeapBytes;
  for (bool wrapped = false;;) {
    if (next_page + bytes > end) {
      if (wrapped) return 0;
      wrapped = true;
      next_page = heap_low;
    }
    const Allocation* in_the_way = live_between(next_page, next_page + bytes);
    if (!in_the_way) return next_page;
    next_page = in_the_way->map_high + kPage;
  }
}

// Takes a piece that the pool keeps, else memory of the device. false: there is none.
bool reserve(MemoryPool& pool, size_t bytes) {
  const auto piece = pool.kept.lower_bound(bytes);
  if (piece == pool.kept.end() && bytes > device_bytes() - device_bytes_reserved()) return false;
  if (piece != pool.kept.end()) {
    const size_t rest = *piece - bytes;
    pool.kept.erase(piece);
    pool.kept_bytes -= bytes;
    if (rest) pool.kept.insert(rest);
  }
  pool.used += bytes;
  pool.used_high = std::max(pool.used_high, pool.used);
  return true;
}

struct Part {
  size_t first, last;  // entries of Allocation::written
};
Part entries(const Allocation& allocation, const void* start, size_t bytes) {
  const size_t offset = reinterpret_cast<uintptr_t>(start) - allocation.low;
  return {offset / 4, (offset + bytes - 1) / 4};
}

}  // namespace

void open_heap() {
  if (heap_low) return;
  heap_low = next_page = reinterpret_cast<uintptr_t>(map_pages(kHeapBytes, PROT_NONE));
  page_allocation =
      static_cast<Allocation**>(map_pages(kHeapBytes / kPage * sizeof *page_allocation, PROT_READ | PROT_WRITE));
}

void* allocate(size_t bytes, MemoryPool& pool) {
  open_heap();
  const size_t room = (bytes + kPage - 1) / kPage * kPage + kPage;
  const uintptr_t start = find_room(room);
  if (!start || !reserve(pool, bytes)) return nullptr;
  forget_freed(start, start + room);
  auto owned = std::make_unique<Allocation>();
  Allocation& allocation = *owned;
  allocation.map_low = start;
  allocation.map_high = start + room - kPage;
  // The end touches the inaccessible page, as nearly as a start on a multiple of 256 bytes allows.
  allocation.low = (allocation.map_high - bytes) & ~uintptr_t{255};
  allocation.high = allocation.low + bytes;
  allocation.live = true;
  allocation.pool = &pool;
  next_page = start + room;
  mprotect(reinterpret_cast<void*>(start), room - kPage, PROT_READ | PROT_WRITE);
  asan_poison(reinterpret_cast<void*>(start), room);
  asan_unpoison(reinterpret_cast<void*>(allocation.low), bytes);
  memset(reinterpret_cast<void*>(allocation.low), 0xff, bytes);  // NaN as float, half and bfloat16; -1 as int
  if (checked) take_shadow(allocation);
  std::fill_n(page_allocation + (start - heap_low) / kPage, room / kPage, &allocation);
  live_bytes += bytes;
  ++live_count;
  allocations[start] = std::move(owned);
  return reinterpret_cast<void*>(allocation.low);
}

int release(void* start) {
  if (!start) return cudaSuccess;
  Allocation* allocation = is_device(start) ? find_allocation(reinterpret_cast<uintptr_t>(start)) : nullptr;
  if (!allocation || allocation->low != reinterpret_cast<uintptr_t>(start) || !allocation->live) {
    explain("free of %p, which is not a live allocation", start);
    return cudaErrorInvalidValue;
  }
  const size_t bytes = allocation->high - allocation->low;
  allocation->live = false;
  live_bytes -= bytes;
  --live_count;
  allocation->pool->used -= bytes;
  allocation->pool->kept.insert(bytes);
  allocation->pool->kept_bytes += bytes;
  if (allocation->cells) return_shadow(*allocation);
  void* pages = reinterpret_cast<void*>(allocation->map_low);
  const size_t room = allocation->map_high - allocation->map_low;
  asan_poison(pages, room);
  mmap(pages, room, PROT_NONE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return cudaSuccess;
}

MemoryPool* create_pool() {
  return pools.emplace_back(new MemoryPool);
}

void trim_pool(MemoryPool& pool, uint64_t bytes) {
  while (pool.reserved() > bytes && !pool.kept.empty()) {
    pool.kept_bytes -= *pool.kept.begin();
    pool.kept.erase(pool.kept.begin());
  }
}

void trim_pools() {
  for (MemoryPool* pool : pools) trim_pool(*pool, pool->release_threshold);
}

void retire_pool(MemoryPool* pool) {
  if (pool == &default_pool) return;
  std::erase(pools, pool);
  for (const auto& [start, allocation] : allocations)
    if (allocation->pool == pool) allocation->pool = &default_pool;
  default_pool.used += pool->used;
  delete pool;
}

void spoil(void* start) {
  const Allocation* allocation = find_allocation(reinterpret_cast<uintptr_t>(start));
  if (!allocation || !allocation->live) return;
  memset(start, 0xff, allocation->high - allocation->low);
  if (allocation->written) memset(allocation->written, 0, (allocation->high - allocation->low) / 4 + 1);
}

bool fits_allocation(const void* start, size_t bytes, const char* what) {
  if (!bytes || !is_device(start)) return true;
  const uintptr_t address = reinterpret_cast<uintptr_t>(start);
  const Allocation* owner = find_allocation(address);
  if (owner && owner->live && address >= owner->low && address + bytes <= owner->high) return true;
  explain("%s of %zu bytes at %p does not fit its device allocation", what, bytes, start);
  return false;
}

void mark_written(const void* start, size_t bytes) {
  if (!bytes || !checked || !is_device(start)) return;
  const Allocation& owner = *find_allocation(reinterpret_cast<uintptr_t>(start));
  const auto [first, last] = entries(owner, start, bytes);
  const size_t offset = reinterpret_cast<uintptr_t>(start) - owner.low, end = offset + bytes;
  const unsigned head = 0xf & ~((1u << (offset - first * 4)) - 1), tail = (1u << (end - last * 4)) - 1;
  if (first == last) {
    owner.written[first] |= head & tail;
    return;
  }
  owner.written[first] |= head;
  memset(owner.written + first + 1, 0xf, last - first - 1);
  owner.written[last] |= tail;
}

void copy_written(const void* target, const void* source, size_t bytes) {
  if (!bytes || !checked) return;
  if ((reinterpret_cast<uintptr_t>(target) | reinterpret_cast<uintptr_t>(source) | bytes) % 4)
    return mark_written(target, bytes);  // not entry by entry: taken as initialised
  const Allocation& to = *find_allocation(reinterpret_cast<uintptr_t>(target));
  const Allocation& from = *find_allocation(reinterpret_cast<uintptr_t>(source));
  memmove(to.written + entries(to, target, bytes).first, from.written + entries(from, source, bytes).first, bytes / 4);
}

size_t device_bytes_reserved() {
  size_t bytes = 0;
  for (const MemoryPool* pool : pools) bytes += pool->reserved();
  return bytes;
}

void pin(void* start, size_t bytes) {
  pinned[reinterpret_cast<uintptr_t>(start)] = bytes;
  pinned_bytes += bytes;
}
bool unpin(void* start) {
  const auto found = pinned.find(reinterpret_cast<uintptr_t>(start));
  if (found == pinned.end()) return false;
  pinned_bytes -= found->second;
  pinned.erase(found);
  return true;
}
bool is_pinned(uintptr_t address) {
  const auto after = pinned.upper_bound(address);
  if (after == pinned.begin()) return false;
  const auto& [start, bytes] = *std::prev(after);
  return address < start + bytes;
}

namespace {
int sections = 0;
void protect_all(int protection) {
  if (!config.isolate) return;
  for (const auto& [start, allocation] : allocations)
    if (allocation->live) mprotect(reinterpret_cast<void*>(start), allocation->map_high - start, protection);
}
}  // namespace

DeviceSection::DeviceSection() {
  if (!sections++) protect_all(PROT_READ | PROT_WRITE);
}
DeviceSection::~DeviceSection() {
  if (!--sections) protect_all(PROT_NONE);
}

}  // namespace cuda_emu

using namespace cuda_emu;

int64_t cuda_emu_live_allocations() {
  const Lock lock(device_mutex);
  return static_cast<int64_t>(live_count + pinned.size());
}
int64_t cuda_emu_live_bytes() {
  const Lock lock(device_mutex);
  return static_cast<int64_t>(live_bytes + pinned_bytes);
}
int64_t cuda_emu_reserved_bytes(int created) {
  const Lock lock(device_mutex);
  const size_t all = device_bytes_reserved(), default_bytes = default_pool.reserved();
  return static_cast<int64_t>(created ? all - default_bytes : default_bytes);
}
int64_t cuda_emu_pinned_bytes() {
  const Lock lock(device_mutex);
  return static_cast<int64_t>(pinned_bytes);
}
int cuda_emu_internal_dependencies() {
  const Lock lock(device_mutex);
  constexpr int internal = cudaMemPoolReuseAllowInternalDependencies - cudaMemPoolReuseFollowEventDependencies;
  return std::any_of(pools.begin() + 1, pools.end(), [](const MemoryPool* pool) { return pool->reuse[internal]; });
}
