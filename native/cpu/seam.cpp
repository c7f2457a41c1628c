// seam on CPU: a tile of tokens is merged, then projected and collapsed while its streams are still in cache. Streams
// too large to stay in the caches are written past them, from a copy of the tile that does stay, and the next tile's x
// is fetched while this one is computed.
#include "cpu/kernels.h"
#include "cpu/mhc_tiles.h"
#include "cpu/workspace.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

void seam_forward(const SeamForwardArgs& args) {
  if (args.tokens == 0) return;
  const MhcPostForwardArgs exit = {args.x, args.output, args.post, args.res,
                                   args.y, args.tokens, args.n,    args.channels};
  const MhcPreForwardArgs entry = {args.y,      args.phi,         args.alpha,      args.bias,    args.input,
                                   args.pre,    {args.post_next}, {args.res_next}, args.q,       args.r,
                                   args.tokens, args.n,           args.channels,   args.options, args.scratch};
  pack_phi(entry);
  const int64_t tile_bytes = kTile * args.n * args.channels * dtype_bytes(args.y.dtype);
  const bool past_caches = streams_past_caches(args.y.data, args.channels, args.y.size * dtype_bytes(args.y.dtype));
  parallel(ceil_div(args.tokens, kTile), [&](int64_t tile) {
    const int64_t first = tile * kTile, end = min64(args.tokens, first + kTile), at = tile * tile_bytes;
    if (past_caches) {
      void* copy = tile_workspace(tile_bytes / 4);
      merge_tokens(exit, first, end, true, copy);
      enter_tile(entry, first, copy, args.x.as<char>() + at + tile_bytes);
    } else {
      merge_tokens(exit, first, end, false);
      enter_tile(entry, first, args.y.as<char>() + at);
    }
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
