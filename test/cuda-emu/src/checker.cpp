// Judges every memory access of a kernel: bounds, lifetime, alignment, initialisation, and races by happens-before.
#include "checker.h"

#include <algorithm>

#include "barrier.h"
#include "heap.h"
#include "report.h"

namespace cuda_emu {

bool checked = false;

namespace {

std::string number(int64_t value) {
  return std::to_string(value);
}

#define INLINE inline __attribute__((always_inline))

// By an access of the running block before its last full barrier. Clocks of other blocks differ by 2^32 or more.
INLINE bool before_last_barrier(const Access& earlier) {
  return earlier.moment - (uint64_t{device.block_index} << 32) < uint64_t{device.full_barriers} << 16;
}

// The same by what orders fewer threads than a whole block, or threads of several blocks.
__attribute__((noinline)) bool ordered_otherwise(const Access& earlier) {
  const unsigned me = current->thread;
  if (earlier.block() == device.block_index) return clocks.any && known_clock(me, earlier.thread()) > earlier.clock();
  const auto found = between_blocks.acquired.find(earlier.block());
  if (found == between_blocks.acquired.end()) return false;
  const Release& release = found->second;
  return earlier.full_barriers() < release.full_barriers ||
         (earlier.full_barriers() == release.full_barriers && earlier.thread() == release.thread);
}

// The earlier access, another thread's, happened before whatever the running lane does now.
INLINE bool ordered(const Access& earlier) {
  return before_last_barrier(earlier) ||
         ((clocks.any || !between_blocks.acquired.empty()) && ordered_otherwise(earlier));
}

INLINE bool same_thread(const Access& a, const Access& b) {
  return a.block() == b.block() && !((a.who ^ b.who) & (kMaxThreads - 1));
}

__attribute__((noinline, cold)) void report_race(const Access& earlier, bool earlier_writes, const Access& access,
                                                 bool writes, uintptr_t address) {
  const InExecutor section;
  const uint32_t pcs[] = {access.pc, earlier.pc};
  if (!first_of(kRace, cudaErrorLaunchFailure, uint64_t{std::min(pcs[0], pcs[1])} << 32 | std::max(pcs[0], pcs[1])))
    return;
  const bool shared = address - reinterpret_cast<uintptr_t>(device.shared) < kSharedCapacity;
  const std::string place = shared
                                ? "shared memory at offset " +
                                      number(static_cast<int64_t>(address - reinterpret_cast<uintptr_t>(device.shared)))
                                : "global memory at " + number(static_cast<int64_t>(address));
  report(kRace, cudaErrorLaunchFailure,
         "data race in " + place + ": " + (writes ? "write" : "read") + " at " + source_line(access.pc) +
             " against the " + (earlier_writes ? "write" : "read") + " at " + source_line(earlier.pc) + " by " +
             thread_name(earlier.block(), earlier.thread()));
}

__attribute__((noinline, cold)) void report_uninitialised(bool shared, uint32_t pc) {
  const InExecutor section;
  if (!first_of(kUninitialised, cudaErrorLaunchFailure, uint64_t{pc} << 32 | 0xffffffffu)) return;
  report(kUninitialised, cudaErrorLaunchFailure,
         std::string("read of uninitialised ") + (shared ? "shared" : "global") + " memory at " + source_line(pc));
}

// Keeps the access in a slot: this thread's own, a free one, one that can no longer race, or any.
INLINE void remember_access(Access* slots, const Access& access) {
  for (int i = 0; i < kRemembered; ++i) {
    Access& slot = slots[i];
    if (!(slot.who & kValid) || !same_thread(slot, access)) continue;
    const bool same_moment = slot.moment == access.moment && !((slot.who ^ access.who) & kAtomicAccess);
    const uint16_t earlier_bytes = same_moment ? slot.who & kBytesMask : 0;
    slot.set(access);
    slot.who |= earlier_bytes;
    return;
  }
  for (int i = 0; i < kRemembered; ++i)
    if (!(slots[i].who & kValid)) return slots[i].set(access);
  for (int i = 0; i < kRemembered; ++i)
    if (ordered(slots[i])) return slots[i].set(access);
  slots[random_bits() % kRemembered].set(access);
}

// One access as its cells see it.
struct Touch {
  uint64_t moment;
  uint32_t pc;
  uint16_t who;  // without bytes
  int flags;
  bool shared;
  uint32_t epoch;
  uintptr_t address;
};

__attribute__((noinline)) void judge_cell(Cell& cell, uint64_t moment, uint32_t pc, uint16_t who, bool writes,
                                          uintptr_t address) {
  const Access access{moment, pc, who};
  const auto judge = [&](Access& earlier, bool earlier_writes) {
    if (!(earlier.who & kValid) || !(earlier.who & access.who & kBytesMask)) return;
    if (same_thread(earlier, access) || (earlier.who & access.who & kAtomicAccess) || ordered(earlier)) return;
    report_race(earlier, earlier_writes, access, writes, address);
    earlier.who = 0;
  };
  for (Access& earlier : cell.writes) judge(earlier, true);
  if (writes)
    for (Access& earlier : cell.reads) judge(earlier, false);
  remember_access(writes ? cell.writes : cell.reads, access);
}

INLINE void touch_cell(Cell& cell, uint8_t& written, unsigned bytes, const Touch& touch) {
  const bool writes = touch.flags & kWrite;
  const uint16_t who = static_cast<uint16_t>(touch.who | bytes << kBytesShift);
  const bool fresh = cell.epoch != touch.epoch;
  if (fresh && touch.shared) written = 0;
  if ((!writes || (touch.flags & kAtomic)) && __builtin_expect(bytes & ~written, 0))
    report_uninitialised(touch.shared, touch.pc);
  if (writes) written |= bytes;
  Access* slots = writes ? cell.writes : cell.reads;
  if (fresh) {
    cell.epoch = touch.epoch;
    for (int i = 0; i < kRemembered; ++i) cell.writes[i].who = cell.reads[i].who = 0;
    slots[0].moment = touch.moment;
    slots[0].pc = touch.pc;
    slots[0].who = who;
    return;
  }
  // The same again: whoever came in between was judged against it then.
  for (int i = 0; i < kRemembered; ++i)
    if (slots[i].who == who && slots[i].moment == touch.moment) return;
  judge_cell(cell, touch.moment, touch.pc, who, writes, touch.address);
}

INLINE void touch_range(Cell* cells, uint8_t* written, size_t offset, size_t bytes, const Touch& touch) {
  const size_t first = offset / 4, end = offset + bytes;
  if (offset % 4 == 0 && bytes % 4 == 0) {
    for (size_t i = first; i < end / 4; ++i) touch_cell(cells[i], written[i], 0xf, touch);
    return;
  }
  for (size_t i = first; i <= (end - 1) / 4; ++i) {
    const size_t low = std::max(offset, i * 4) - i * 4, high = std::min(end, i * 4 + 4) - i * 4;
    touch_cell(cells[i], written[i], ((1u << high) - 1) & ~((1u << low) - 1), touch);
  }
}

[[noreturn]] __attribute__((noinline, cold)) void fail_shared(size_t offset, size_t bytes, const char* what,
                                                              uint32_t pc) {
  const InExecutor section;
  std::string near;
  for (const SharedVariable& v : device.variables)
    if (offset + 64 >= v.offset && offset < v.offset + v.bytes + 64)
      near = std::string(", near the variable of ") + v.site.file + ":" + number(v.site.line) + " (byte " +
             number(static_cast<int64_t>(offset) - static_cast<int64_t>(v.offset)) + " of " + number(v.bytes) + ")";
  if (near.empty() && device.dynamic_bytes && offset < device.dynamic_bytes + 4096)
    near = ", dynamic shared memory byte " + number(offset) + " of " + number(device.dynamic_bytes);
  fail_kind(kBounds, cudaErrorIllegalAddress, "out-of-bounds shared-memory %s of %zu bytes at %s%s", what, bytes,
            source_line(pc).c_str(), near.c_str());
}

[[noreturn]] __attribute__((noinline, cold)) void fail_global(uintptr_t address, size_t bytes, const Allocation* owner,
                                                              const char* what, uint32_t pc) {
  const InExecutor section;
  if (owner && !owner->live)
    fail_kind(kBounds, cudaErrorIllegalAddress, "global-memory %s of freed memory at %s", what,
              source_line(pc).c_str());
  const std::string near = owner ? ", byte " + number(static_cast<int64_t>(address - owner->low)) +
                                       " of an allocation of " + number(owner->high - owner->low)
                                 : "";
  fail_kind(kBounds, cudaErrorIllegalAddress, "out-of-bounds global-memory %s of %zu bytes at %s%s", what, bytes,
            source_line(pc).c_str(), near.c_str());
}

bool in_shared_variable(size_t offset, size_t bytes) {
  const uint8_t owner = device.shared_owner[offset / 4];
  return owner && offset + bytes <= device.shared_end[owner];
}

// Neither shared nor device memory: parameters, __constant__ and __device__ variables, pinned memory; or a mistake.
void check_elsewhere(uintptr_t address, int flags, const char* what, uint32_t pc) {
  const InExecutor section;
  if (address - reinterpret_cast<uintptr_t>(device.body) < device.body->bytes && !(flags & kWrite)) return;
  if (address - module_low < module_high - module_low) return;
  if (is_pinned(address)) return;
  if (address - reinterpret_cast<uintptr_t>(device.stacks) < kStackBytes * kMaxThreads)
    fail_kind(kBounds, cudaErrorIllegalAddress, "%s of another thread's local memory at %s", what,
              source_line(pc).c_str());
  fail_kind(kBounds, cudaErrorIllegalAddress, "%s of host memory %p by a kernel at %s", what,
            reinterpret_cast<void*>(address), source_line(pc).c_str());
}

}  // namespace

void check_access(uintptr_t address, size_t bytes, int flags, uint32_t pc) {
  if (!checked) return;
  const char* what = flags & kWrite ? "write" : "read";
  if (__builtin_expect((flags & kAligned) && (address & (bytes - 1)), 0))
    fail_kind(kMisaligned, cudaErrorMisalignedAddress, "misaligned %zu-byte %s at %s (address %% %zu = %zu)", bytes,
              what, source_line(pc).c_str(), bytes, static_cast<size_t>(address & (bytes - 1)));
  Touch touch;
  touch.moment = uint64_t{device.block_index} << 32 | device.full_barriers << 16 | current->clock;
  touch.pc = pc;
  touch.who = static_cast<uint16_t>(current->thread | kValid | (flags & kAtomic ? kAtomicAccess : 0));
  touch.flags = flags;
  touch.address = address;
  const size_t offset = address - reinterpret_cast<uintptr_t>(device.shared);
  if (offset < kSharedCapacity) {
    if (!in_shared_variable(offset, bytes)) fail_shared(offset, bytes, what, pc);
    touch.shared = true;
    touch.epoch = device.block_serial;
    return touch_range(device.shared_cells, device.shared_written, offset, bytes, touch);
  }
  if (!is_device(address)) return check_elsewhere(address, flags, what, pc);
  const Allocation* owner = find_allocation(address);
  if (!owner || !owner->live || address < owner->low || address + bytes > owner->high)
    fail_global(address, bytes, owner, what, pc);
  touch.shared = false;
  touch.epoch = device.launch;
  touch_range(owner->cells, owner->written, address - owner->low, bytes, touch);
}

void atomic_begin(const void* address, size_t bytes, Site) {
  const InExecutor section;
  if (!current) return;
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  if (at - reinterpret_cast<uintptr_t>(current->stack) < kStackBytes) return;
  if (at & (bytes - 1)) fail_kind(kMisaligned, cudaErrorMisalignedAddress, "misaligned atomic");
  check_access(at, bytes, kWrite | kAtomic, short_pc(__builtin_return_address(0)));
  const auto found = between_blocks.released.find(at);
  if (found != between_blocks.released.end())
    for (const Release& release : found->second) {
      if (release.block == device.block_index) continue;
      Release& known = between_blocks.acquired[release.block];
      if (known.full_barriers <= release.full_barriers) known = release;
    }
  if (between_blocks.fenced)
    between_blocks.released[at].push_back(
        {device.block_index, static_cast<uint16_t>(device.full_barriers), static_cast<uint16_t>(current->thread)});
}

}  // namespace cuda_emu
