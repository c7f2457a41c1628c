// Tiles of tokens for the hyper-connection kernels: per-token coefficients live transposed, one token per vector lane.
#pragma once
#include "cpu/simd.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

constexpr int kTile = 16;  // tokens; a multiple of every W

// `width` values per token, source [tokens, width], to lanes [width][kTile]; lanes beyond count are zero.
BIRKHOFF_INLINE void load_lanes(const float* source, int width, int64_t count, float (*lanes)[kTile]) {
  for (int k = 0; k < width; ++k)
    for (int t = 0; t < kTile; ++t) lanes[k][t] = t < count ? source[t * width + k] : 0.0f;
}

template <int Width>
BIRKHOFF_INLINE void load_vectors(const float (*lanes)[kTile], int first, vf (&v)[Width]) {
#pragma GCC unroll 8
  for (int k = 0; k < Width; ++k) v[k] = load(&lanes[k][first]);
}

template <int Width>
BIRKHOFF_INLINE void store_vectors(float (*lanes)[kTile], int first, const vf (&v)[Width]) {
#pragma GCC unroll 8
  for (int k = 0; k < Width; ++k) store(&lanes[k][first], v[k]);
}

BIRKHOFF_INLINE void store_lanes(float* target, int width, int64_t count, const float (*lanes)[kTile]) {
  for (int64_t t = 0; t < count; ++t)
    for (int k = 0; k < width; ++k) target[t * width + k] = lanes[k][t];
}

// Outputs beyond this many bytes are written past the caches: they would not stay in them until their reader comes.
constexpr int64_t kStreamingBytes = int64_t{32} << 20;

BIRKHOFF_INLINE bool streams_past_caches(const void* data, int64_t channels, int64_t bytes) {
  return bytes > kStreamingBytes && channels % W == 0 && reinterpret_cast<uintptr_t>(data) % 64 == 0;
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
