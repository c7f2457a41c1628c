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

// The earlier access happened before whatever the running lane does now.
bool ordered(const Access& earlier) {
  const unsigned me = current->thread;
  if (earlier.block == device.block_index)
    return earlier.thread == me || earlier.full_barriers < device.full_barriers ||
           (clocks.any && known_clock(me, earlier.thread) > earlier.clock);
  if (between_blocks.acquired.empty()) return false;
  const auto found = between_blocks.acquired.find(earlier.block);
  if (found == between_blocks.acquired.end()) return false;
  const Release& release = found->second;
  return earlier.full_barriers < release.full_barriers ||
         (earlier.full_barriers == release.full_barriers && earlier.thread == release.thread);
}

bool same_thread(const Access& access) {
  return access.thread == current->thread && access.block == device.block_index;
}

struct Touch {
  uint8_t bytes;  // of the cell's four
  int flags;
  uint32_t pc;
  uintptr_t address;
  bool shared;
};

__attribute__((noinline, cold)) void report_race(const Access& earlier, bool earlier_writes, const Touch& touch) {
  const uint64_t key =
      uint64_t{std::min<uint32_t>(touch.pc, earlier.pc)} << 32 | std::max<uint32_t>(touch.pc, earlier.pc);
  if (!first_of(kRace, cudaErrorLaunchFailure, key)) return;
  const std::string place =
      touch.shared ? "shared memory at offset " + number(touch.address - reinterpret_cast<uintptr_t>(device.shared))
                   : "global memory at " + number(touch.address);
  report(kRace, cudaErrorLaunchFailure,
         "data race in " + place + ": " + (touch.flags & kWrite ? "write" : "read") + " at " + source_line(touch.pc) +
             " against the " + (earlier_writes ? "write" : "read") + " at " + source_line(earlier.pc) + " by " +
             thread_name(earlier.block, earlier.thread));
}

__attribute__((noinline, cold)) void report_uninitialised(const Touch& touch) {
  if (!first_of(kUninitialised, cudaErrorLaunchFailure, uint64_t{touch.pc} << 32 | 0xffffffffu)) return;
  report(kUninitialised, cudaErrorLaunchFailure,
         std::string("read of uninitialised ") + (touch.shared ? "shared" : "global") + " memory at " +
             source_line(touch.pc));
}

// A slot for the new record: this thread's own, a free one, one that can no longer race, or any.
Access& slot_for(Access* slots, Touch& touch) {
  for (int i = 0; i < kRemembered; ++i) {
    Access& slot = slots[i];
    if (!slot.valid || !same_thread(slot)) continue;
    if (slot.full_barriers == device.full_barriers && slot.clock == current->clock &&
        slot.atomic == ((touch.flags & kAtomic) != 0))
      touch.bytes |= slot.bytes;
    return slot;
  }
  for (int i = 0; i < kRemembered; ++i)
    if (!slots[i].valid) return slots[i];
  for (int i = 0; i < kRemembered; ++i)
    if (ordered(slots[i])) return slots[i];
  return slots[random_bits() % kRemembered];
}

inline void store(Access& slot, const Touch& touch) {
  slot.block = device.block_index;
  slot.pc = touch.pc;
  slot.full_barriers = static_cast<uint16_t>(device.full_barriers);
  slot.clock = current->clock;
  slot.thread = current->thread;
  slot.bytes = touch.bytes;
  slot.valid = 1;
  slot.atomic = (touch.flags & kAtomic) != 0;
}

inline void touch_cell(Cell& cell, uint8_t& written, uint32_t epoch, Touch touch) {
  const bool writes = touch.flags & kWrite, atomic = touch.flags & kAtomic;
  const bool fresh = cell.epoch != epoch;
  if (fresh) {
    cell.epoch = epoch;
    for (int i = 0; i < kRemembered; ++i) cell.writes[i].valid = cell.reads[i].valid = 0;
    if (touch.shared) written = 0;
  }
  if ((!writes || atomic) && (touch.bytes & ~written)) report_uninitialised(touch);
  if (writes) written |= touch.bytes;
  if (fresh) return store(writes ? cell.writes[0] : cell.reads[0], touch);
  const auto races = [&](const Access& earlier) {
    return earlier.valid && (earlier.bytes & touch.bytes) && !(atomic && earlier.atomic) && !same_thread(earlier) &&
           !ordered(earlier);
  };
  const auto judge = [&](Access& earlier, bool earlier_writes) {
    if (!races(earlier)) return;
    report_race(earlier, earlier_writes, touch);
    earlier.valid = 0;
  };
  for (Access& earlier : cell.writes) judge(earlier, true);
  if (writes)
    for (Access& earlier : cell.reads) judge(earlier, false);
  Access& slot = slot_for(writes ? cell.writes : cell.reads, touch);
  store(slot, touch);
}

inline void touch_range(Cell* cells, uint8_t* written, size_t offset, size_t bytes, uint32_t epoch, Touch touch) {
  for (size_t i = offset / 4; i <= (offset + bytes - 1) / 4; ++i) {
    const size_t low = std::max(offset, i * 4) - i * 4, high = std::min(offset + bytes, i * 4 + 4) - i * 4;
    touch.bytes = static_cast<uint8_t>(((1u << high) - 1) & ~((1u << low) - 1));
    touch_cell(cells[i], written[i], epoch, touch);
  }
}

[[noreturn]] __attribute__((noinline, cold)) void fail_shared(size_t offset, size_t bytes, const char* what,
                                                              uint32_t pc) {
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
  if (!owner || offset + bytes > kSharedCapacity || owner != device.shared_owner[(offset + bytes - 1) / 4])
    return false;
  if (owner == kDynamicOwner) return offset + bytes <= device.dynamic_bytes;
  const SharedVariable& variable = device.variables[owner - 1];
  return offset + bytes <= variable.offset + variable.bytes;
}

// Neither shared nor device memory: parameters, __constant__ and __device__ variables, pinned memory; or a mistake.
void check_elsewhere(uintptr_t address, int flags, const char* what, uint32_t pc) {
  if (address - module_low < module_high - module_low) return;
  if (address - reinterpret_cast<uintptr_t>(device.body) < device.body->bytes && !(flags & kWrite)) return;
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
  if ((flags & kAligned) && (address & (bytes - 1)))
    fail_kind(kMisaligned, cudaErrorMisalignedAddress, "misaligned %zu-byte %s at %s (address %% %zu = %zu)", bytes,
              what, source_line(pc).c_str(), bytes, static_cast<size_t>(address & (bytes - 1)));
  Touch touch{0, flags, pc, address, true};
  const size_t offset = address - reinterpret_cast<uintptr_t>(device.shared);
  if (offset < kSharedCapacity) {
    if (!in_shared_variable(offset, bytes)) fail_shared(offset, bytes, what, pc);
    return touch_range(device.shared_cells, device.shared_written, offset, bytes, device.block_serial, touch);
  }
  if (!is_device(address)) return check_elsewhere(address, flags, what, pc);
  const Allocation* owner = find_allocation(address);
  if (!owner || !owner->live || address < owner->low || address + bytes > owner->high)
    fail_global(address, bytes, owner, what, pc);
  touch.shared = false;
  touch_range(owner->cells, owner->written, address - owner->low, bytes, device.launch, touch);
}

void atomic_begin(const void* address, size_t bytes, Site) {
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
