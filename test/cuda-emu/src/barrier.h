// Barriers of a block, and the order of memory accesses that they and other synchronisation give.
#pragma once
#include "state.h"

namespace cuda_emu {

void begin_grid_order();
void begin_block_order();
// Each of threads[0 .. count) has seen what all of them did.
void join(const unsigned* threads, unsigned count);
void release_barriers_after_exit();

// Between two full barriers: what `reader` knows of `writer`'s clock.
struct Clocks {
  bool any = false;               // some threads have synchronised since the last full barrier
  bool across_warps = false;      // ... by a barrier of a part of the block: `all` is used, else `in_warp`
  std::vector<uint16_t> in_warp;  // [threads][32]
  std::vector<uint16_t> all;      // [threads][threads]
};
extern Clocks clocks;
inline uint16_t known_clock(unsigned reader, unsigned writer) {
  if (clocks.across_warps) return clocks.all[size_t{reader} * device.threads + writer];
  return reader / kWarp == writer / kWarp ? clocks.in_warp[reader * kWarp + writer % kWarp] : 0;
}

// Release and acquire between blocks: __threadfence() and atomics.
struct Release {
  uint32_t block;
  uint16_t full_barriers, thread;
};
struct BetweenBlocks {
  bool fenced = false;
  std::unordered_map<uintptr_t, std::vector<Release>> released;  // by the atomic's address
  std::unordered_map<uint32_t, Release> acquired;                // by block
};
extern BetweenBlocks between_blocks;

}  // namespace cuda_emu
