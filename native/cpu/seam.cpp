// seam on CPU: a tile of tokens is merged, then projected and collapsed while its streams are still in cache. Streams
// too large to stay in the caches are written past them, from a copy of the tile that does stay, and the next tile's x
// is fetched while this one is computed.
#include "cpu/kernels.h"
#include "cpu/mhc_tiles.h"
#include "cpu/workspace.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

// Every tile reads all of phi. One that fills a core's cache by itself comes from further away, and slower still with
// the merge's streams passing beside it: then one kernel after the other is faster, measured from n = 4, C = 2048 on.
constexpr int64_t kCachedPhiBytes = int64_t{512} << 10;

void seam_forward(const SeamForwardArgs& args) {
  if (args.tokens == 0) return;
  const MhcPostForwardArgs ending = {args.x, args.output, args.post, args.res,
                                     args.y, args.tokens, args.n,    args.channels};
  const MhcPreForwardArgs beginning = {args.y,      args.phi,         args.alpha,      args.bias,    args.input,
                                       args.pre,    {args.post_next}, {args.res_next}, args.q,       args.r,
                                       args.tokens, args.n,           args.channels,   args.options, args.scratch};
  if (args.phi.size * 4 > kCachedPhiBytes) {
    mhc_post_forward(ending);
    mhc_pre_forward(beginning);
    return;
  }
  pack_phi(beginning);
  const int64_t tile_bytes = kTile * args.n * args.channels * dtype_bytes(args.y.dtype);
  const bool past_caches = streams_past_caches(args.y.data, args.channels, args.y.size * dtype_bytes(args.y.dtype));
  parallel(ceil_div(args.tokens, kTile), [&](int64_t tile) {
    const int64_t first = tile * kTile, end = min64(args.tokens, first + kTile), at = tile * tile_bytes;
    if (past_caches) {
      void* copy = tile_workspace(tile_bytes / 4);
      merge_tokens(ending, first, end, true, copy);
      enter_tile(beginning, first, copy, args.x.as<char>() + at + tile_bytes);
    } else {
      merge_tokens(ending, first, end, false);
      enter_tile(beginning, first, args.y.as<char>() + at);
    }
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
