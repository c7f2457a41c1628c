// What one warp of "finish" (mhc_pre_backward.cu) holds and does: 8 L columns of one stream (L = 8, for eight streams
// 4), a tile of 16 tokens at a time.
//
// With g = lane / 4 and p = lane % 4 a lane holds the tokens 2p, 2p + 1, 2p + 8, 2p + 9 and the columns L g .. L g + L
// - 1: L elements per load, whole lines per token. That is the layout of mma's left operand for dphi^T = x^T (r dm)
// (tokens are summed over), once pairs of tokens are put together, and of its result for dx^T = phi^T (r dm)^T, so x is
// loaded once and nothing is shuffled.
//
// Tensor cores cut off what they add to a long sum (projection_tile.h). So dphi is summed from zero over 128 tokens at
// a time, low terms of r dm first in each tile, and these sums are joined in float32, in order, in shared memory.
#pragma once
#include <type_traits>

#include "cuda/bf16_terms.h"
#include "cuda/coefficient_backward.h"
#include "cuda/ptx.h"

namespace birkhoff::cuda {

template <int n>
inline constexpr int kLaneColumns = n < 8 ? 8 : 4;
// Rows of phi in tiles of 16, where they are summed over, and of 8, where they are mma's columns.
template <int n>
inline constexpr int kRowSteps = (n * n + 2 * n + 15) / 16;
template <int n>
inline constexpr int kGradientTiles = (n * n + 2 * n + 7) / 8;
// Terms of phi and r dm in dx: what its rounding lets through.
template <class T>
inline constexpr int kInputTerms = std::is_same_v<T, bfloat16> ? 2 : 3;
// Tokens whose gradients are on their way before they are used: as many as there are registers for.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr int kMostAhead = 4;  // streams with two tokens ahead; with eight, sm_80 spills
#else
constexpr int kMostAhead = 8;
#endif
template <int n, class T>
inline constexpr int kTokensAhead = n < 4 || (n <= kMostAhead && std::is_same_v<T, bfloat16>) ? 2 : 1;
constexpr int kJoinedTiles = 8;

// Which gradients there are: of the streams after the connection (dy) and of the branch's input (du). kAny asks.
enum class Given { kBoth, kInput, kAny };

template <class T>
struct FinishArgs {
  const T *x, *du, *dy;  // du and dy may be null
  T* dx;
  FinishScratch scratch;
  int64_t tokens, channels, column_groups, token_tiles, tiles_per_part;
  int rows;
};

// L elements as they lie in memory, or the first `count` of them and zeros: loads of many are on their way at once, and
// converted where they are used.
template <int L, bool Vector, class T>
struct Columns {
  static constexpr int kWords = L * static_cast<int>(sizeof(T)) / 4;
  uint32_t words[kWords];

  __device__ __forceinline__ void load(const T* p, int count) {
    if constexpr (!Vector) {
#pragma unroll
      for (int k = 0; k < kWords; ++k) {
        if constexpr (std::is_same_v<T, float>) {
          words[k] = k < count ? __float_as_uint(p[k]) : 0;
        } else {
          const uint32_t low = 2 * k < count ? p[2 * k].bits : 0, high = 2 * k + 1 < count ? p[2 * k + 1].bits : 0;
          words[k] = low | high << 16;
        }
      }
    } else if constexpr (kWords == 2) {
      const uint2 v = *reinterpret_cast<const uint2*>(p);
      words[0] = v.x, words[1] = v.y;
    } else {
#pragma unroll
      for (int k = 0; k < kWords; k += 4) {
        const uint4 v = reinterpret_cast<const uint4*>(p)[k / 4];
        words[k] = v.x, words[k + 1] = v.y, words[k + 2] = v.z, words[k + 3] = v.w;
      }
    }
  }
  __device__ __forceinline__ float operator[](int k) const {
    if constexpr (std::is_same_v<T, float>)
      return __uint_as_float(words[k]);
    else
      return k % 2 ? high_half(words[k / 2]) : low_half(words[k / 2]);
  }
};

template <int L, bool Vector, class T>
__device__ __forceinline__ void store_columns(T* p, int64_t count, const float (&v)[L]) {
  if constexpr (L == 8) {
    store_some<Vector>(p, count, v);
  } else if constexpr (Vector) {
    store4(p, v[0], v[1], v[2], v[3]);
  } else {
#pragma unroll
    for (int k = 0; k < L; ++k)
      if (k < count) from_float(v[k], p[k]);
  }
}

// Elements of two tokens as one operand register per term. A bfloat16 is its own only term: two halves, put together.
template <class T>
__device__ __forceinline__ void token_pair(float first, float second, uint32_t (&pairs)[kTermsOf<T>]) {
  if constexpr (std::is_same_v<T, bfloat16>)
    pairs[0] = __byte_perm(__float_as_uint(first), __float_as_uint(second), 0x7632);
  else
    split_pair(first, second, pairs);
}

template <int n, bool Vector, class T, Given given>
struct FinishWarp {
  static constexpr int L = kLaneColumns<n>, kSteps = kRowSteps<n>, kTiles = kGradientTiles<n>, kIn = kInputTerms<T>,
                       kOwn = kTermsOf<T>, kAhead = kTokensAhead<n, T>, kPairs = L / 2;
  // Of shared memory, 16 bytes a lane each: phi's operands, and the sums of dphi.
  static constexpr int kPhi = kPairs * kSteps * kIn, kSums = kPairs * kTiles;
  static constexpr int kSharedBytes = (kPhi + kSums) * 32 * 16;

  const FinishArgs<T>& a;
  const int lane, g, p, stream;
  const int64_t column;  // the lane's first
  const int64_t from;    // where it reads: a lane past the last column reads the first ones again
  const int count;       // of its columns
  uint4* const phi;
  float4* const sums;
  float weights[kAhead][kFinishWeights<n>];
  Columns<L, Vector, T> dy[kAhead][n], du[kAhead], x[4];
  float dphi[kPairs][kTiles][4];

  __device__ __forceinline__ FinishWarp(const FinishArgs<T>& args, int64_t job, uint4* shared)
      : a(args),
        lane(threadIdx.x % 32),
        g(lane / 4),
        p(lane % 4),
        stream(static_cast<int>(job % n)),
        column(job / n * 8 * L + L * g),
        from(column < a.channels ? column : 0),
        count(a.channels - from < L ? static_cast<int>(a.channels - from) : L),
        phi(shared + lane),
        sums(reinterpret_cast<float4*>(shared + kPhi * 32) + lane) {
#pragma unroll
    for (int k = 0; k < kPhi; ++k)
      phi[k * 32] = a.scratch.phi[((job * kPairs * kSteps + k / kIn) * 3 + k % kIn) * 32 + lane];
#pragma unroll
    for (int k = 0; k < kSums; ++k) sums[k * 32] = make_float4(0, 0, 0, 0);
  }

  __device__ __forceinline__ bool has_dy() const {
    return given == Given::kAny ? a.dy != nullptr : given == Given::kBoth;
  }
  __device__ __forceinline__ bool has_du() const {
    return given == Given::kAny ? a.du != nullptr : true;
  }
  __device__ __forceinline__ int64_t token_of(int64_t tile, int e) const {
    return tile * 16 + 2 * p + e % 2 + 8 * (e / 2);
  }
  // Past the last token its row is read again: its dx is not written, and in dphi it meets an r dm of zero.
  __device__ __forceinline__ int64_t row_of(int64_t tile, int e) const {
    const int64_t token = token_of(tile, e);
    return token < a.tokens ? token : a.tokens - 1;
  }

  __device__ __forceinline__ void load_x(int64_t tile) {
#pragma unroll
    for (int e = 0; e < 4; ++e) x[e].load(a.x + (row_of(tile, e) * n + stream) * a.channels + from, count);
  }
  // What token e of the tile adds to dx beside the product and x.
  __device__ __forceinline__ void load_incoming(int64_t tile, int e) {
    const int64_t row = row_of(tile, e);
    const uint4* const source =
        reinterpret_cast<const uint4*>(a.scratch.weights + (row * n + stream) * kFinishWeights<n>);
    float(&to)[kFinishWeights<n>] = weights[e % kAhead];
#pragma unroll
    for (int k = 0; k < kFinishWeights<n> / 4; ++k) {
      const uint4 v = source[k];
      to[4 * k] = __uint_as_float(v.x), to[4 * k + 1] = __uint_as_float(v.y);
      to[4 * k + 2] = __uint_as_float(v.z), to[4 * k + 3] = __uint_as_float(v.w);
    }
    if (has_dy())
#pragma unroll
      for (int i = 0; i < n; ++i) dy[e % kAhead][i].load(a.dy + (row * n + i) * a.channels + from, count);
    if (has_du()) du[e % kAhead].load(a.du + row * a.channels + from, count);
  }
  __device__ __forceinline__ void load_tile(int64_t tile) {
    load_x(tile);
#pragma unroll
    for (int e = 0; e < kAhead; ++e) load_incoming(tile, e);
  }

  // [(r dm) phi]: by pairs of columns and halves of the tokens.
  __device__ __forceinline__ void multiply_phi(int64_t tile, float (&product)[kPairs][2][4]) const {
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair)
#pragma unroll
      for (int k = 0; k < 4; ++k) product[pair][0][k] = product[pair][1][k] = 0.0f;
    constexpr int kUnrolled = n == 8 && kAhead == 1 ? 1 : kSteps;  // no loads of later steps, for want of registers
#pragma unroll kUnrolled
    for (int step = 0; step < kSteps; ++step) {
      uint4 gradient[kIn];
#pragma unroll
      for (int term = 0; term < kIn; ++term)
        gradient[term] = a.scratch.of_tokens[((tile * kSteps + step) * 3 + term) * 32 + lane];
#pragma unroll
      for (int place = kIn - 1; place >= 0; --place)  // low terms first
#pragma unroll
        for (int own = 0; own <= place; ++own)
#pragma unroll
          for (int pair = 0; pair < kPairs; ++pair) {
            const uint4 left = phi[((pair * kSteps + step) * kIn + own) * 32], right = gradient[place - own];
            const uint32_t operand[4] = {left.x, left.y, left.z, left.w};
            ptx::mma_bf16(product[pair][0], operand, {right.x, right.y});
            ptx::mma_bf16(product[pair][1], operand, {right.z, right.w});
          }
    }
  }

  // dx of token e, whose gradients' place is taken by those of a token to come.
  __device__ __forceinline__ void finish_token(int64_t tile, int64_t next, int e,
                                               const float (&product)[kPairs][2][4]) {
    const int slot = e % kAhead;
    float sum[L];
#pragma unroll
    for (int k = 0; k < L; ++k) sum[k] = vfma(weights[slot][n + 1], x[e][k], product[k / 2][e / 2][k % 2 * 2 + e % 2]);
    if (has_dy())
#pragma unroll
      for (int i = 0; i < n; ++i)
#pragma unroll
        for (int k = 0; k < L; ++k) sum[k] = vfma(weights[slot][i], dy[slot][i][k], sum[k]);
    if (has_du())
#pragma unroll
      for (int k = 0; k < L; ++k) sum[k] = vfma(weights[slot][n], du[slot][k], sum[k]);
    const auto load_next = [&] { load_incoming(e + kAhead < 4 ? tile : next, (e + kAhead) % 4); };
    if constexpr (kAhead == 2) load_next();  // before the store: no load moves ahead of one
    const int64_t token = token_of(tile, e);
    if (token < a.tokens && column < a.channels)
      store_columns<L, Vector>(a.dx + (token * n + stream) * a.channels + column, count, sum);
    if constexpr (kAhead == 1) load_next();  // there are no registers for both
  }

  // dphi += x^T (r dm) of the tile, whose x is then replaced by the next one's.
  __device__ __forceinline__ void multiply_x(int64_t tile, int64_t next) {
    uint32_t left[kPairs][kOwn][4];
#pragma unroll
    for (int k = 0; k < L; ++k) {
      uint32_t low[kOwn], high[kOwn];
      token_pair<T>(x[0][k], x[1][k], low);
      token_pair<T>(x[2][k], x[3][k], high);
#pragma unroll
      for (int own = 0; own < kOwn; ++own) left[k / 2][own][k % 2] = low[own], left[k / 2][own][k % 2 + 2] = high[own];
    }
    if constexpr (kAhead == 2) load_x(next);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      uint4 gradient[3];
#pragma unroll
      for (int term = 0; term < 3; ++term)
        gradient[term] = a.scratch.of_rows[((tile * kSteps + step) * 3 + term) * 32 + lane];
#pragma unroll
      for (int place = 2; place >= 0; --place)  // low terms first
#pragma unroll
        for (int own = 0; own <= place && own < kOwn; ++own)
#pragma unroll
          for (int pair = 0; pair < kPairs; ++pair) {
            const uint4 right = gradient[place - own];
            ptx::mma_bf16(dphi[pair][2 * step], left[pair][own], {right.x, right.y});
            if (2 * step + 1 < kTiles) ptx::mma_bf16(dphi[pair][2 * step + 1], left[pair][own], {right.z, right.w});
          }
    }
    if constexpr (kAhead == 1) load_x(next);
  }
  __device__ __forceinline__ void clear() {
#pragma unroll
    for (auto& pair : dphi)
#pragma unroll
      for (auto& tile : pair)
#pragma unroll
        for (float& v : tile) v = 0.0f;
  }
  __device__ __forceinline__ void join() {
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair)
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        float4& sum = sums[(pair * kTiles + t) * 32];
        const float(&part)[4] = dphi[pair][t];
        sum = make_float4(sum.x + part[0], sum.y + part[1], sum.z + part[2], sum.w + part[3]);
      }
    clear();
  }

  // Rows 2p and 2p + 1 of each tile of eight, for all of the lane's columns.
  __device__ __forceinline__ void store_dphi(float* partial) const {
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const int row = t * 8 + 2 * p + side;
        if (row >= a.rows) continue;
        float v[L];
#pragma unroll
        for (int k = 0; k < L; ++k) {
          const float4& sum = sums[(k / 2 * kTiles + t) * 32];
          v[k] = k % 2 ? (side ? sum.w : sum.z) : (side ? sum.y : sum.x);
        }
        if (column < a.channels)
          store_columns<L, Vector>(partial + (int64_t{row} * n + stream) * a.channels + column, count, v);
      }
  }
};

}  // namespace birkhoff::cuda
