// What the projection's two kernels share: a tile of tokens, how phi comes to it, and the order of its sums.
//
// A warp takes 16 tokens. With g = lane / 4 and p = lane % 4, a lane holds columns 8p .. 8p + 7 of 32 for the tokens g
// and g + 8: 16 bytes of bfloat16 per load, all 32-byte sectors used, and just the registers that mma wants for its
// left operand, if the columns of the product are counted in the order in which the lanes hold them. phi is packed in
// that order, so nothing is shuffled or staged. A block's eight warps share phi through shared memory, one stage of it
// ahead of the arithmetic.
//
// The order of the sums. Tensor cores align what they add to the largest exponent and cut off what lies more than two
// bits below float32's last: a long sum drifts towards zero, and the low terms of phi would vanish beside it. So 128
// columns at a time are summed from zero, low terms first, and these sums are joined in float32, in order. Ranges of
// columns, a function of C alone, are added up by the consumer. So the same token gives the same bits in any batch.
#pragma once
#include "cuda/bf16_terms.h"
#include "cuda/mhc_merge.h"
#include "cuda/packed.h"
#include "cuda/ptx.h"
#include "ops/mhc_pre.h"

namespace birkhoff::cuda {

constexpr int kWarpTokens = 16;
constexpr int kProjectionWarps = 8;
constexpr int kProjectionTokens = kWarpTokens * kProjectionWarps;

// Rows of phi as tiles of eight, the width of mma's result.
template <int n>
inline constexpr int kRowTiles = (n * n + 2 * n + 7) / 8;
// Tiles whose slices of phi are in shared memory at once.
template <int n>
inline constexpr int kStageTiles = n < 8 ? kRowTiles<n> : kRowTiles<n> / 2;
template <int n>
inline constexpr int kPhiStages = kRowTiles<n> / kStageTiles<n>;

// The 128 columns of one sum are four slots of 32 channels of one stream: `kSlotStreams` streams by `kSlotChunks`
// times 32 channels. A chunk is that many channels of all streams: for eight streams two sums.
constexpr int kSlots = 4;
template <int n>
inline constexpr int kSlotStreams = n < kSlots ? n : kSlots;
template <int n>
inline constexpr int kSlotChunks = kSlots / kSlotStreams<n>;
template <int n>
inline constexpr int kChunkChannels = 32 * kSlotChunks<n>;
template <int n>
inline constexpr int kChunkSums = n / kSlotStreams<n>;

// phi's operands of one stage: [term, low first][slot][k step of 2][tile][lane].
template <int n>
inline constexpr int kStageWords = 3 * kSlots * 2 * kStageTiles<n> * 32;
template <int n>
__device__ __forceinline__ constexpr int stage_word(int level, int slot, int step, int tile) {
  return (((level * kSlots + slot) * 2 + step) * kStageTiles<n> + tile) * 32;
}

// Where a projection leaves its sums: q [splits, T, 8 kRowTiles], then squares [splits, T].
struct ProjectionPartials {
  float* q;
  float* squares;
};

template <class T>
struct ProjectionArgs {
  const T* x;         // [T, n, C]
  const T* output;    // the seam: f [T, C]
  const float* post;  // the seam: [T, n], of the connection that ends
  const float* res;   // the seam: [T, n, n]
  T* y;               // the seam: [T, n, C]
  const uint2* packed;
  ProjectionPartials partials;
  int64_t tokens, channels, chunks, chunks_per_split;
  int terms;  // of phi: CoefficientOptions::projection_terms()
};

// The tokens and columns of a lane.
template <int n, class T>
struct ProjectionTile {
  int lane, warp, p;
  int64_t tokens, begin, end;  // chunks of the block's range

  __device__ __forceinline__ explicit ProjectionTile(const ProjectionArgs<T>& a)
      : lane(threadIdx.x % 32), warp(threadIdx.x / 32), p(lane % 4), tokens(a.tokens) {
    begin = int64_t{blockIdx.y} * a.chunks_per_split;
    end = begin + a.chunks_per_split < a.chunks ? begin + a.chunks_per_split : a.chunks;
  }
  // h: 0 or 1, the first or the second of a lane's tokens.
  __device__ __forceinline__ int64_t token(int h) const {
    return int64_t{blockIdx.x} * kProjectionTokens + warp * kWarpTokens + lane / 4 + 8 * h;
  }
  __device__ __forceinline__ bool live(int h) const { return token(h) < tokens; }
  // Past the last token its row is read again: no load waits for a condition, and nobody takes those sums.
  __device__ __forceinline__ int64_t row(int h) const { return live(h) ? token(h) : tokens - 1; }
  __device__ __forceinline__ int64_t column(int64_t chunk, int slot_chunk) const {
    return chunk * kChunkChannels<n> + 32 * slot_chunk + 8 * p;
  }
};

// phi on its way: stage after stage into two buffers of shared memory.
template <int n>
struct PhiStages {
  const uint2* packed;
  uint2* shared;
  int64_t next, end;
  int buffer = 0;

  template <class T>
  __device__ __forceinline__ PhiStages(const ProjectionArgs<T>& a, const ProjectionTile<n, T>& tile, uint2* buffers)
      : packed(a.packed),
        shared(buffers),
        next(tile.begin * kChunkSums<n> * kPhiStages<n>),
        end(tile.end * kChunkSums<n> * kPhiStages<n>) {
    fetch(0);
  }
  __device__ __forceinline__ void fetch(int into) {
    if (next < end)
      for (int k = threadIdx.x * 2; k < kStageWords<n>; k += kProjectionWarps * 32 * 2)
        ptx::copy_async16(shared + into * kStageWords<n> + k, packed + next * kStageWords<n> + k);
    ptx::copy_async_commit();
    ++next;
  }
  // The next stage, as the calling lane reads it; valid until the next call.
  __device__ __forceinline__ const uint2* arrive() {
    ptx::copy_async_wait<0>();
    __syncthreads();  // it has arrived, and no warp reads the other buffer any more
    const uint2* const here = shared + buffer * kStageWords<n> + threadIdx.x % 32;
    buffer ^= 1;
    fetch(buffer);
    return here;
  }
};

template <int Tiles>
__device__ __forceinline__ void multiply_tiles(float (&part)[Tiles][4], const uint32_t (&left)[4], const uint2* phi) {
#pragma unroll
  for (int tile = 0; tile < Tiles; ++tile) {
    const uint2 pair = phi[tile * 32];
    const uint32_t right[2] = {pair.x, pair.y};
    ptx::mma_bf16(part[tile], left, right);
  }
}

// Joins the sums of 128 columns to those before them.
template <int n>
__device__ __forceinline__ void join(float (&sum)[kRowTiles<n>][4], int stage, const float (&part)[kStageTiles<n>][4]) {
#pragma unroll
  for (int t = 0; t < kStageTiles<n>; ++t)
#pragma unroll
    for (int k = 0; k < 4; ++k) sum[stage * kStageTiles<n> + t][k] += part[t][k];
}

template <int n, class T>
__device__ __forceinline__ void store_partials(const ProjectionArgs<T>& a, const ProjectionTile<n, T>& tile,
                                               const float (&sum)[kRowTiles<n>][4], const float (&square)[2]) {
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    // The four lanes of a token each hold a quarter of its columns.
    float whole = square[h];
    whole += __shfl_xor_sync(0xffffffffu, whole, 1);
    whole += __shfl_xor_sync(0xffffffffu, whole, 2);
    if (!tile.live(h)) continue;
    const int64_t target = int64_t{blockIdx.y} * a.tokens + tile.token(h);
    if (tile.p == 0) a.partials.squares[target] = whole;
#pragma unroll
    for (int r = 0; r < kRowTiles<n>; ++r)
      ptx::store8(a.partials.q + target * kRowTiles<n> * 8 + r * 8 + 2 * tile.p, __float_as_uint(sum[r][2 * h]),
                  __float_as_uint(sum[r][2 * h + 1]));
  }
}

// The coefficients of the connection that ends, for a lane's two tokens: in registers where they fit, else looked up in
// shared memory.
template <int n>
inline constexpr bool kMergeInRegisters = n < 8;
template <int n>
inline constexpr int kMergeStride = n* n + n + 1;  // odd: the eight tokens of a warp's lanes fall into different banks
template <int n>
struct MergeCoefficients {
  float own[2][kMergeInRegisters<n> ? n * n + n : 1];
  const float* shared[2];

  template <class T>
  __device__ __forceinline__ MergeCoefficients(const ProjectionArgs<T>& a, const ProjectionTile<n, T>& tile,
                                               float* memory) {
    if constexpr (kMergeInRegisters<n>) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
#pragma unroll
        for (int i = 0; i < n; ++i) own[h][i] = tile.live(h) ? a.post[tile.token(h) * n + i] : 0.0f;
#pragma unroll
        for (int k = 0; k < n * n; ++k) own[h][n + k] = tile.live(h) ? a.res[tile.token(h) * n * n + k] : 0.0f;
      }
    } else {
      for (int k = threadIdx.x; k < kProjectionTokens * (n * n + n); k += blockDim.x) {
        const int t = k / (n * n + n), index = k % (n * n + n);
        const int64_t at = int64_t{blockIdx.x} * kProjectionTokens + t;
        memory[t * kMergeStride<n> + index] = at >= a.tokens ? 0.0f
                                              : index < n    ? a.post[at * n + index]
                                                             : a.res[at * n * n + index - n];
      }
      __syncthreads();
#pragma unroll
      for (int h = 0; h < 2; ++h)
        shared[h] = memory + (tile.warp * kWarpTokens + tile.lane / 4 + 8 * h) * kMergeStride<n>;
    }
  }
  // post, then res.
  __device__ __forceinline__ const float* of(int h) const {
    if constexpr (kMergeInRegisters<n>)
      return own[h];
    else
      return shared[h];
  }
};

}  // namespace birkhoff::cuda
