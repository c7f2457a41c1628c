// mhcPost and mhcPre forward by ranges of tokens, for the kernels that run one after the other (seam.cpp). Ordinary
// functions, called once per tile: what they run is compiled once per instruction set, and rounds the same in all.
#pragma once
#include "cpu/tokens.h"
#include "ops/mhc_post.h"
#include "ops/mhc_pre.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

// y of tokens [first, end). past_caches: see tokens.h; copy, if there is one, then gets the same rows, to be read
// again.
void merge_tokens(const MhcPostForwardArgs& args, int64_t first, int64_t end, bool past_caches, void* copy = nullptr);

// phi as enter_tile wants it, in args.scratch.
void pack_phi(const MhcPreForwardArgs& args);

// Everything mhcPre computes of up to kTile tokens from first on, whose rows of x begin at x. ahead: as many rows,
// fetched into the cache meanwhile; without it the tile's own next columns are.
void enter_tile(const MhcPreForwardArgs& args, int64_t first, const void* x, const void* ahead = nullptr);

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
