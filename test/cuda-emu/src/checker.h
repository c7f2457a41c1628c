// The memory checker's shadow: who last wrote and read each 4 bytes, and which bytes were ever written.
#pragma once
#include "state.h"

namespace cuda_emu {

struct __attribute__((packed)) Access {
  uint32_t block, pc;
  uint16_t full_barriers, clock;
  uint16_t thread : 10, bytes : 4, valid : 1, atomic : 1;
};
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
