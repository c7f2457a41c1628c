// The projection of bfloat16 streams: the words in memory are the tensor cores' operand as they are. See
// projection_tile.h.
#pragma once
#include "cuda/projection_tile.h"

namespace birkhoff::cuda {

// Blocks of an SM to find registers for; left to itself the compiler spills to get one more.
template <int n, bool Merge>
inline constexpr int kBfloat16Blocks = Merge    ? 1
                                       : n == 2 ? 3
                                                : 2;

// Streams and branch output of a chunk, as they lie in memory: [token][slot chunk][stream].
template <int n, bool Vector>
struct MergeInputs {
  static constexpr int kChunks = kSlotChunks<n>;
  Packed8<bfloat16> x[2][kChunks][n], output[2][kChunks];

  __device__ __forceinline__ void load(const ProjectionArgs<bfloat16>& a, const ProjectionTile<n, bfloat16>& tile,
                                       int64_t chunk) {
#pragma unroll
    for (int h = 0; h < 2; ++h)
#pragma unroll
      for (int u = 0; u < kChunks; ++u) {
        const int64_t c = tile.column(chunk, u);
#pragma unroll
        for (int j = 0; j < n; ++j)
          x[h][u][j] = load_packed<Vector>(a.x + (tile.row(h) * n + j) * a.channels, c, a.channels);
        output[h][u] = load_packed<Vector>(a.output + tile.row(h) * a.channels, c, a.channels);
      }
  }
  // Two columns at a time, so that few of them are floats at once: streams first_stream .. of the merged ones.
  __device__ __forceinline__ void merge(const MergeCoefficients<n>& coefficients, int first_stream,
                                        Packed8<bfloat16> (&y)[2][kSlots]) const {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const float* const post = coefficients.of(h);
#pragma unroll
      for (int u = 0; u < kChunks; ++u)
#pragma unroll
        for (int w = 0; w < 4; ++w) {
          float from[n][2], merged[2];
#pragma unroll
          for (int j = 0; j < n; ++j)
            from[j][0] = low_half(x[h][u][j].words[w]), from[j][1] = high_half(x[h][u][j].words[w]);
          const float f[2] = {low_half(output[h][u].words[w]), high_half(output[h][u].words[w])};
#pragma unroll
          for (int s = 0; s < kSlotStreams<n>; ++s) {
            merge_stream<n>(first_stream + s, from, f, post, post + n, merged);
            y[h][u * kSlotStreams<n> + s].words[w] = pack_pair(merged[0], merged[1]);
          }
        }
    }
  }
};

template <int n, bool Vector, bool Merge>
__global__ void __launch_bounds__(kProjectionWarps * 32, kBfloat16Blocks<n, Merge>)
    projection_bfloat16_kernel(const ProjectionArgs<bfloat16> a) {
  constexpr int kTiles = kRowTiles<n>, kBatch = kStageTiles<n>, kStreams = kSlotStreams<n>;
  // Loads are on their way while the tensor cores work: the merge's a whole chunk ahead where there are registers;
  // without it the next columns take the place of those that the last products have read.
  constexpr bool kAhead = n < 8;
  BIRKHOFF_DYNAMIC_SHARED(uint2, shared);  // two stages of phi, then (n = 8) the merge's coefficients
  const ProjectionTile<n, bfloat16> tile(a);
  const int64_t C = a.channels;
  [[maybe_unused]] const auto coefficients = [&] {
    if constexpr (Merge)
      return MergeCoefficients<n>(a, tile, reinterpret_cast<float*>(shared + 2 * kStageWords<n>));
    else
      return 0;
  }();
  PhiStages<n> stages(a, tile, shared);

  Packed8<bfloat16> v[2][kSlots];  // the columns of one sum: x, or merged what is written to y
  [[maybe_unused]] MergeInputs<n, Vector> inputs;
  const auto load_slot = [&](int64_t chunk, int group, int slot) {
#pragma unroll
    for (int h = 0; h < 2; ++h)
      v[h][slot] = load_packed<Vector>(a.x + (tile.row(h) * n + group * kStreams + slot % kStreams) * C,
                                       tile.column(chunk, slot / kStreams), C);
  };
  if constexpr (Merge) {
    if (kAhead && tile.begin < tile.end) inputs.load(a, tile, tile.begin);
  } else {
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) load_slot(tile.begin < tile.end ? tile.begin : 0, 0, slot);
  }

  float sum[kTiles][4] = {}, square[2] = {};
  for (int64_t chunk = tile.begin; chunk < tile.end; ++chunk) {
    const int64_t next = chunk + 1 < tile.end ? chunk + 1 : chunk;  // the last chunk again: from the cache
    if constexpr (Merge && !kAhead) inputs.load(a, tile, chunk);
    [[maybe_unused]] const MergeInputs<n, Vector> current = inputs;
    if constexpr (Merge && kAhead) inputs.load(a, tile, next);
#pragma unroll 1
    for (int group = 0; group < kChunkSums<n>; ++group) {
      if constexpr (Merge) current.merge(coefficients, group * kStreams, v);
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int slot = 0; slot < kSlots; ++slot) {
          const int64_t c = tile.column(chunk, slot / kStreams);
          if constexpr (Merge)
            store_packed<Vector>(tile.live(h), a.y + (tile.token(h) * n + group * kStreams + slot % kStreams) * C, c, C,
                                 v[h][slot]);
          v[h][slot] = or_zero(c < C, v[h][slot]);
          float columns[8];
          unpack8(v[h][slot], columns);
#pragma unroll
          for (int k = 0; k < 8; ++k) square[h] = vfma(columns[k], columns[k], square[h]);
        }
#pragma unroll
      for (int stage = 0; stage < kPhiStages<n>; ++stage) {
        const uint2* const phi = stages.arrive();
        float part[kBatch][4] = {};
#pragma unroll
        for (int level = 0; level < 3; ++level) {
          if (level == 0 && a.terms == 2) continue;
#pragma unroll
          for (int slot = 0; slot < kSlots; ++slot) {
#pragma unroll
            for (int step = 0; step < 2; ++step) {
              const uint32_t left[4] = {v[0][slot].words[2 * step], v[1][slot].words[2 * step],
                                        v[0][slot].words[2 * step + 1], v[1][slot].words[2 * step + 1]};
              multiply_tiles(part, left, phi + stage_word<n>(level, slot, step, 0));
            }
            if (!Merge && stage + 1 == kPhiStages<n> && level == 2) {
              const bool last = group + 1 == kChunkSums<n>;
              load_slot(last ? next : chunk, last ? 0 : group + 1, slot);
            }
          }
        }
        join<n>(sum, stage, part);
      }
    }
  }
  store_partials(a, tile, sum, square);
}

}  // namespace birkhoff::cuda
