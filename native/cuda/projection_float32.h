// The projection of float32 streams: each element is split into three bfloat16 terms on its way to the tensor cores,
// and of the products with phi's terms those are kept whose weight is above the last term's. See projection_tile.h.
#pragma once
#include "cuda/projection_tile.h"

namespace birkhoff::cuda {

template <int n, bool Merge>
inline constexpr int kFloat32Blocks = Merge || n == 8 ? 1 : 2;

// The columns of one sum: [token][slot][column].
using SlotColumns = float[2][kSlots][8];

template <int n, bool Vector>
__device__ __forceinline__ void load_columns(const ProjectionArgs<float>& a, const ProjectionTile<n, float>& tile,
                                             int64_t chunk, int first_stream, SlotColumns& v) {
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int stream = first_stream + slot % kSlotStreams<n>;
      load_inside<Vector>(a.x + (tile.row(h) * n + stream) * a.channels, tile.column(chunk, slot / kSlotStreams<n>),
                          a.channels, v[h][slot]);
    }
}

// The same of the merged streams (mhc_merge.h, the same order of the sum), which are written to y. One stream of x at a
// time: all of them do not fit in registers.
template <int n, bool Vector>
__device__ __forceinline__ void merge_columns(const ProjectionArgs<float>& a, const ProjectionTile<n, float>& tile,
                                              const MergeCoefficients<n>& coefficients, int64_t chunk, int first_stream,
                                              SlotColumns& v) {
  constexpr int kStreams = kSlotStreams<n>;
  const int64_t C = a.channels;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const float* const post = coefficients.of(h);
    const float* const res = post + n;
#pragma unroll
    for (int u = 0; u < kSlotChunks<n>; ++u) {
      const int64_t c = tile.column(chunk, u);
      float from[8];
      load_inside<Vector>(a.output + tile.row(h) * C, c, C, from);
#pragma unroll
      for (int s = 0; s < kStreams; ++s)
#pragma unroll
        for (int k = 0; k < 8; ++k) v[h][u * kStreams + s][k] = post[first_stream + s] * from[k];
#pragma unroll
      for (int j = 0; j < n; ++j) {
        load_inside<Vector>(a.x + (tile.row(h) * n + j) * C, c, C, from);
#pragma unroll
        for (int s = 0; s < kStreams; ++s)
#pragma unroll
          for (int k = 0; k < 8; ++k)
            v[h][u * kStreams + s][k] = vfma(res[(first_stream + s) * n + j], from[k], v[h][u * kStreams + s][k]);
      }
#pragma unroll
      for (int s = 0; s < kStreams; ++s) {
        Packed8<float> packed;
        pack8(v[h][u * kStreams + s], packed);
        store_packed<Vector>(tile.live(h), a.y + (tile.token(h) * n + first_stream + s) * C, c, C, packed);
      }
    }
  }
}

// The products of one sum whose terms' places add up to 2 - level: level 0 is the smallest. The level is not known to
// the compiler, which would hold the terms of all columns for the next one, in more registers than there are.
template <int n>
__device__ __forceinline__ void multiply_level(int level, const SlotColumns& v, const uint2* phi, int terms,
                                               float (&part)[kStageTiles<n>][4]) {
#pragma unroll
  for (int slot = 0; slot < kSlots; ++slot)
#pragma unroll
    for (int step = 0; step < 2; ++step) {
      uint32_t left[3][4];  // [term of v]
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
          uint32_t own[3];
          split_pair(v[h][slot][4 * step + 2 * pair], v[h][slot][4 * step + 2 * pair + 1], own);
#pragma unroll
          for (int term = 0; term < 3; ++term) left[term][h + 2 * pair] = own[term];
        }
#pragma unroll
      for (int own = 0; own < 3; ++own) {
        const int place = 2 - level - own;  // of phi's term
        if (place >= 0 && place < terms) multiply_tiles(part, left[own], phi + stage_word<n>(2 - place, slot, step, 0));
      }
    }
}

template <int n, bool Vector, bool Merge>
__global__ void __launch_bounds__(kProjectionWarps * 32, kFloat32Blocks<n, Merge>)
    projection_float32_kernel(const ProjectionArgs<float> a) {
  constexpr int kTiles = kRowTiles<n>, kBatch = kStageTiles<n>;
  BIRKHOFF_DYNAMIC_SHARED(uint2, shared);  // two stages of phi, then (n = 8) the merge's coefficients
  const ProjectionTile<n, float> tile(a);
  [[maybe_unused]] const auto coefficients = [&] {
    if constexpr (Merge)
      return MergeCoefficients<n>(a, tile, reinterpret_cast<float*>(shared + 2 * kStageWords<n>));
    else
      return 0;
  }();
  PhiStages<n> stages(a, tile, shared);

  float sum[kTiles][4] = {}, square[2] = {};
  for (int64_t chunk = tile.begin; chunk < tile.end; ++chunk)
#pragma unroll 1
    for (int group = 0; group < kChunkSums<n>; ++group) {
      SlotColumns v;
      if constexpr (Merge)
        merge_columns<n, Vector>(a, tile, coefficients, chunk, group * kSlotStreams<n>, v);
      else
        load_columns<n, Vector>(a, tile, chunk, group * kSlotStreams<n>, v);
#pragma unroll
      for (int h = 0; h < 2; ++h)
#pragma unroll
        for (int slot = 0; slot < kSlots; ++slot)
#pragma unroll
          for (int k = 0; k < 8; ++k) square[h] = vfma(v[h][slot][k], v[h][slot][k], square[h]);
#pragma unroll
      for (int stage = 0; stage < kPhiStages<n>; ++stage) {
        const uint2* const phi = stages.arrive();
        float part[kBatch][4] = {};
#pragma unroll 1
        for (int level = 0; level < 3; ++level) multiply_level<n>(level, v, phi, a.terms, part);
        join<n>(sum, stage, part);
      }
    }
  store_partials(a, tile, sum, square);
}

}  // namespace birkhoff::cuda
