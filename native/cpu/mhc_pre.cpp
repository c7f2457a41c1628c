// mhcPre forward on CPU: x is read from memory once. A tile of 16 tokens is projected (phi packed so that one broadcast
// of x feeds up to three vectors of coefficients), its coefficients are computed with one token per lane, and u is
// collapsed while the tile is still in cache.
#include "cpu/kernels.h"
#include "cpu/mhc_tiles.h"
#include "cpu/streams.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int kChunk = 128;  // of K: the tile's columns and their slice of packed phi share L1

// Coefficients are projected in groups of up to three vectors: with four tokens that fills the registers.
template <int Count>
struct Groups {
  static constexpr int kVectors = (Count + W - 1) / W;
  static constexpr int kPadded = kVectors * W;
  static constexpr int kGroups = (kVectors + 2) / 3;
  static constexpr int width(int group) { return group + 1 < kGroups ? 3 : kVectors - 3 * (kGroups - 1); }
};

// phi [count, K] to [group][K][width * W], zero-padded.
template <int Count>
void pack(const float* phi, int64_t K, float* packed) {
  using G = Groups<Count>;
  parallel(ceil_div(K, kChunk), [&](int64_t chunk) {
    const int64_t end = min64(K, (chunk + 1) * kChunk);
    for (int group = 0; group < G::kGroups; ++group) {
      const int lanes = G::width(group) * W;
      float* target = packed + 3 * W * K * group;
      for (int c = 0; c < lanes; ++c) {
        const int row = 3 * W * group + c;
        for (int64_t k = chunk * kChunk; k < end; ++k) target[k * lanes + c] = row < Count ? phi[row * K + k] : 0.0f;
      }
    }
  });
}

// q[t] += x[t, 0..length) * packed phi, for Tokens tokens and Width vectors of coefficients. Meanwhile fetches a chunk
// of as many rows ahead: memory is idle while a chunk is computed, and 16 rows are too many for the hardware's
// prefetcher.
template <int Tokens, int Width, class T>
BIRKHOFF_INLINE void project(const float* x, int64_t length, const float* packed, float* q, int64_t q_stride,
                             const T* ahead, int64_t ahead_stride) {
  constexpr int64_t line = 64 / sizeof(T);
  vf sum[Tokens][Width] = {};
  for (int64_t begin = 0; begin < length; begin += line) {
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) __builtin_prefetch(ahead + t * ahead_stride + begin, 0, 2);
    const int64_t end = min64(begin + line, length);
    for (int64_t k = begin; k < end; ++k) {
      vf p[Width];
#pragma GCC unroll 3
      for (int v = 0; v < Width; ++v) p[v] = load(packed + (k * Width + v) * W);
#pragma GCC unroll 8
      for (int t = 0; t < Tokens; ++t) {
        const vf xk = broadcast(x[t * kChunk + k]);
#pragma GCC unroll 3
        for (int v = 0; v < Width; ++v) sum[t][v] = vfma(xk, p[v], sum[t][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 3
    for (int v = 0; v < Width; ++v) store(q + t * q_stride + v * W, load(q + t * q_stride + v * W) + sum[t][v]);
}

template <int Width, class T>
BIRKHOFF_INLINE void project_tile(const float* x, int64_t length, const float* packed, float* q, int64_t q_stride,
                                  const T* ahead, int64_t ahead_stride) {
  constexpr int tokens = Width == 1 || W == 16 ? (Width == 3 ? 4 : 8) : 4;
  for (int t = 0; t < kTile; t += tokens)
    project<tokens, Width>(x + t * kChunk, length, packed, q + t * q_stride, q_stride, ahead + t * ahead_stride,
                           ahead_stride);
}

// One token's chunk, widened, to a buffer of its own (rows a power of two apart would push each other out of the
// cache); adds its squares to sum.
template <class T>
BIRKHOFF_INLINE vf gather_chunk(const T* x, int64_t length, float* buffer, vf sum) {
  vf parts[2] = {sum, {}};
  int64_t k = 0;
  for (; k + 2 * W <= length; k += 2 * W)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const vf value = load(x + k + v * W);
      store(buffer + k + v * W, value);
      parts[v] = vfma(value, value, parts[v]);
    }
  for (; k < length; k += W) {
    const vf value = k + W <= length ? load(x + k) : load_partial(x + k, length - k);
    store(buffer + k, value);
    parts[0] = vfma(value, value, parts[0]);
  }
  return parts[0] + parts[1];
}

// The projection of one tile: q [kTile][padded] and the sums of squares. Tokens beyond count are zero.
template <int Count, class T>
BIRKHOFF_INLINE void project_streams(const T* x, int64_t count, int64_t K, const T* ahead, const float* packed,
                                     float* q, float* square_sums) {
  using G = Groups<Count>;
  alignas(64) float chunk[kTile][kChunk];
  if (count < kTile) memset(chunk, 0, sizeof chunk);
  vf sums[kTile] = {};
  for (int64_t k = 0; k < K; k += kChunk) {
    const int64_t length = min64(kChunk, K - k);
    for (int t = 0; t < count; ++t) sums[t] = gather_chunk(x + t * K + k, length, chunk[t], sums[t]);
#pragma GCC unroll 8
    for (int group = 0; group < G::kGroups; ++group) {
      const float* slice = packed + 3 * W * K * group + k * G::width(group) * W;
      float* target = q + 3 * W * group;
      if (group + 1 < G::kGroups)
        project_tile<3>(chunk[0], length, slice, target, G::kPadded, ahead + k, K);
      else
        project_tile<G::width(G::kGroups - 1)>(chunk[0], length, slice, target, G::kPadded, ahead + k, K);
    }
  }
  for (int t = 0; t < count; ++t) square_sums[t] = sum_lanes(sums[t]);
}

template <int n, bool Head, class T>
void enter(const MhcPreForwardArgs& args, int64_t first, const T* x, const T* ahead) {
  using Coefs = Coefficients<n, Head, vf>;
  constexpr int N = Coefs::kCount;
  using G = Groups<N>;
  const int64_t C = args.channels, K = n * C, count = min64(kTile, args.tokens - first);
  const vf shift = broadcast(pre_shift(args.options));
  float q[kTile * G::kPadded] = {};
  float square_sums[kTile] = {};
  project_streams<N>(x, count, K, ahead, static_cast<const float*>(args.scratch), q, square_sums);

  float scale[kTile];
  for (int t = 0; t < kTile; t += W)
    store(scale + t,
          1.0f / vsqrt(load(square_sums + t) / static_cast<float>(K) + static_cast<float>(args.options.norm_eps)));
  float m[N][kTile], pre[n][kTile], post[n][kTile], res[n * n][kTile];
  for (int k = 0; k < N; ++k)
    for (int t = 0; t < kTile; ++t) m[k][t] = scale[t] * q[t * G::kPadded + k];
  for (int t = 0; t < count; t += W) {
    vf lanes[N];
    load_vectors(m, t, lanes);
    Coefs coefficients;
    coefficients.compute(lanes, args.alpha.f32(), args.bias.f32(), args.options, NoSums{});
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) coefficients.pre[i] = coefficients.pre[i] + shift;
    store_vectors(pre, t, coefficients.pre);
    if constexpr (!Head) store_vectors(post, t, coefficients.post), store_vectors(res, t, coefficients.res);
  }
  store_lanes(args.pre.f32() + first * n, n, count, pre);
  if constexpr (!Head) {
    store_lanes(args.post.f32() + first * n, n, count, post);
    store_lanes(args.res.f32() + first * n * n, n * n, count, res);
  }
  for (int64_t t = 0; t < count; ++t) {
    memcpy(args.q.f32() + (first + t) * N, q + t * G::kPadded, N * sizeof(float));
    args.r.f32()[first + t] = scale[t];
    mix<n>(x + t * K, C, args.pre.f32() + (first + t) * n, 1, 0, C, args.input.as<T>() + (first + t) * C);
  }
}

}  // namespace

void pack_phi(const MhcPreForwardArgs& args) {
  with_streams(args.n, [&](auto n) {
    float* packed = static_cast<float*>(args.scratch);
    if (args.head())
      pack<n()>(args.phi.f32(), n() * args.channels, packed);
    else
      pack<n() * n() + 2 * n()>(args.phi.f32(), n() * args.channels, packed);
  });
}

void enter_tile(const MhcPreForwardArgs& args, int64_t first, const void* x, const void* ahead) {
  with_streams(args.n, [&](auto n) {
    with_float_type(args.x.dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      const T* rows = static_cast<const T*>(x);
      const T* next = ahead ? static_cast<const T*>(ahead) : rows + kChunk;
      if (args.head())
        enter<n(), true>(args, first, rows, next);
      else
        enter<n(), false>(args, first, rows, next);
    });
  });
}

void mhc_pre_forward(const MhcPreForwardArgs& args) {
  if (args.tokens == 0) return;
  pack_phi(args);
  const int64_t tile_bytes = kTile * args.n * args.channels * dtype_bytes(args.x.dtype);
  parallel(ceil_div(args.tokens, kTile),
           [&](int64_t tile) { enter_tile(args, tile * kTile, args.x.as<char>() + tile * tile_bytes); });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
