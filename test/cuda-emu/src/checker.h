// The memory checker's shadow: who last wrote and read each 4 bytes, and which bytes were ever written.
#pragma once
#include "state.h"

namespace cuda_emu {

// Moment: the block, how many full barriers it had passed, and the thread's clock since the last of them. Who: the
// thread, bytes of the cell's four, flags.
struct __attribute__((packed)) Access {
  uint64_t moment;
  uint32_t pc;
  uint16_t who;

  uint32_t block() const { return static_cast<uint32_t>(moment >> 32); }
  unsigned full_barriers() const { return moment >> 16 & 0xffff; }
  unsigned clock() const { return moment & 0xffff; }
  unsigned thread() const { return who & (kMaxThreads - 1); }
  // Member by member: the compiler's own copy overlaps two words, which stalls.
  void set(const Access& other) {
    moment = other.moment;
    pc = other.pc;
    who = other.who;
  }
};
constexpr unsigned kBytesShift = 10, kBytesMask = 0xf << kBytesShift, kAtomicAccess = 1 << 14, kValid = 1 << 15;
constexpr int kRemembered = 2;
// Written only for the launch (global memory) or block (shared memory) that `epoch` names, so it never needs clearing.
struct alignas(64) Cell {
  uint32_t epoch;
  Access writes[kRemembered], reads[kRemembered];
};
static_assert(sizeof(Cell) == kCellBytes);

enum AccessFlags { kWrite = 1, kAtomic = 2, kAligned = 4 };
// Any access by the running lane except to its own stack.
void check_access(uintptr_t address, size_t bytes, int flags, uint32_t pc);

}  // namespace cuda_emu
