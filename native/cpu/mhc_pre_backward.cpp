// mhcPre backward ("finish") on CPU, per tile of 16 tokens:
//   gather   one sequential read of x, du and dy: dpre = <du, x_i>, and the terms of dx that need nothing else
//   gates    coefficient backward, one token per lane
//   finish   per block of columns: the tile's share of dphi, the other terms of dx, and dx is written, rounded once
// A block of x is copied before use: rows a power of two apart would push each other out of the cache.
// dphi, dalpha and dbias are summed in at most 32 partials, folded in order.
#include "cpu/kernels.h"
#include "cpu/streams.h"
#include "cpu/tokens.h"
#include "cpu/workspace.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int kBlock = 2 * W;  // columns

// phi [count, n * C] as [column block][stream][count][kBlock], zero-padded: what one block needs lies together.
template <int n, int Count>
struct Packed {
  int64_t channels;
  int64_t blocks() const { return ceil_div(channels, kBlock); }
  int64_t size() const { return blocks() * n * Count * kBlock; }
  int64_t offset(int64_t block, int stream) const { return (block * n + stream) * Count * kBlock; }

  void pack(const float* phi, float* packed) const {
    parallel(blocks(), [&](int64_t block) {
      const int64_t width = min64(kBlock, channels - block * kBlock);
      for (int j = 0; j < n; ++j)
        for (int k = 0; k < Count; ++k) {
          float* target = packed + offset(block, j) + k * kBlock;
          const float* source = phi + (k * n + j) * channels + block * kBlock;
          for (int64_t c = 0; c < kBlock; ++c) target[c] = c < width ? source[c] : 0.0f;
        }
    });
  }

  // Ordered, compensated sum of the partials, back in phi's layout.
  void fold(const float* partials, int64_t count, float* grad_phi) const {
    parallel(blocks(), [&](int64_t block) {
      const int64_t width = min64(kBlock, channels - block * kBlock);
      for (int j = 0; j < n; ++j)
        for (int k = 0; k < Count; ++k)
          for (int64_t c = 0; c < width; c += W) {
            const float* source = partials + offset(block, j) + k * kBlock + c;
            vf sum = load(source), lost = {};
            for (int64_t p = 1; p < count; ++p) {
              const vf term = load(source + p * size()) - lost;
              const vf next = sum + term;
              lost = (next - sum) - term;
              sum = next;
            }
            float* target = grad_phi + (k * n + j) * channels + block * kBlock + c;
            if (c + W <= width)
              store(target, sum);
            else
              store_partial(target, sum, width - c);
          }
    });
  }
};

// Two vectors of columns; the last block may be cut short.
template <bool Full, class T>
BIRKHOFF_INLINE void load2(const T* p, int64_t width, vf (&v)[2]) {
  if constexpr (Full) {
    v[0] = load(p), v[1] = load(p + W);
  } else {
    v[0] = load_partial(p, min64(W, width));
    v[1] = width > W ? load_partial(p + W, width - W) : vf{};
  }
}

template <bool Full, bool Streaming, class T>
BIRKHOFF_INLINE void store2(T* p, int64_t width, const vf (&v)[2]) {
  if constexpr (!Full) {
    store_partial(p, v[0], min64(W, width));
    if (width > W) store_partial(p + W, v[1], width - W);
  } else if constexpr (Streaming) {
    store_stream(p, v[0]), store_stream(p + W, v[1]);
  } else {
    store(p, v[0]), store(p + W, v[1]);
  }
}

// What one tile needs; rows are per token.
template <int n, int Count, class T>
struct Tile {
  const T *x, *du, *dy;  // du, dy may be null
  T* dx;
  int64_t count, channels;
  float* partial_dx;  // [token][stream][row_floats]: sum_i res_ij dy_i + pre_j du
  float pre[kTile][n], res[kTile][n * n], rdm[kTile][Count], norm_term[kTile];

  // Whole blocks, and one cache line so that rows do not share cache sets.
  static int64_t row_floats(int64_t channels) { return ceil_div(channels, kBlock) * kBlock + 16; }
  static int64_t workspace_floats(int64_t channels) { return kTile * n * row_floats(channels); }

  // One block of one token; adds <du, x_i> to products.
  template <bool Full>
  MHC_HD void gather_block(int64_t t, int64_t column, int64_t width, vf (&products)[n]) const {
    vf sum[n][2] = {}, value[2];
    if (du) {
      load2<Full>(du + t * channels + column, width, value);
#pragma GCC unroll 8
      for (int j = 0; j < n; ++j) {
        vf xs[2];
        load2<Full>(x + (t * n + j) * channels + column, width, xs);
        products[j] = vfma(value[1], xs[1], vfma(value[0], xs[0], products[j]));
        const vf weight = broadcast(pre[t][j]);
        sum[j][0] = weight * value[0], sum[j][1] = weight * value[1];
      }
    }
    if (dy)
#pragma GCC unroll 8
      for (int i = 0; i < n; ++i) {
        load2<Full>(dy + (t * n + i) * channels + column, width, value);
#pragma GCC unroll 8
        for (int j = 0; j < n; ++j) {
          const vf weight = broadcast(res[t][i * n + j]);
          sum[j][0] = vfma(weight, value[0], sum[j][0]), sum[j][1] = vfma(weight, value[1], sum[j][1]);
        }
      }
#pragma GCC unroll 8
    for (int j = 0; j < n; ++j) store2<true, false>(partial_dx + (t * n + j) * row_floats(channels) + column, kBlock, sum[j]);
  }

  void gather(int64_t t, float (*grad_pre)[kTile]) const {
    vf products[n] = {};
    int64_t column = 0;
    for (; column + kBlock <= channels; column += kBlock) gather_block<true>(t, column, kBlock, products);
    if (column < channels) gather_block<false>(t, column, channels - column, products);
    for (int i = 0; i < n; ++i) grad_pre[i][t] += sum_lanes(products[i]);
  }

  template <int Rows>
  void add_grad_phi(int k, const float* xs, bool first, float* target) const {
    vf sum[Rows][2] = {};
    if (!first)
#pragma GCC unroll 6
      for (int a = 0; a < Rows; ++a)
        sum[a][0] = load(target + (k + a) * kBlock), sum[a][1] = load(target + (k + a) * kBlock + W);
    for (int64_t t = 0; t < count; ++t) {
      const vf x0 = load(xs + t * kBlock), x1 = load(xs + t * kBlock + W);
#pragma GCC unroll 6
      for (int a = 0; a < Rows; ++a) {
        const vf weight = broadcast(rdm[t][k + a]);
        sum[a][0] = vfma(weight, x0, sum[a][0]), sum[a][1] = vfma(weight, x1, sum[a][1]);
      }
    }
#pragma GCC unroll 6
    for (int a = 0; a < Rows; ++a)
      store(target + (k + a) * kBlock, sum[a][0]), store(target + (k + a) * kBlock + W, sum[a][1]);
  }

  template <int Tokens, bool Full, bool Streaming>
  void write_dx(int64_t t, int j, int64_t column, int64_t width, const float* xs, const float* phi) const {
    vf sum[Tokens][2];
#pragma GCC unroll 4
    for (int a = 0; a < Tokens; ++a) {
      const vf norm = broadcast(norm_term[t + a]);
      const float* from = partial_dx + ((t + a) * n + j) * row_floats(channels) + column;
      sum[a][0] = vfma(norm, load(xs + (t + a) * kBlock), load(from));
      sum[a][1] = vfma(norm, load(xs + (t + a) * kBlock + W), load(from + W));
    }
    for (int k = 0; k < Count; ++k) {
      const vf p0 = load(phi + k * kBlock), p1 = load(phi + k * kBlock + W);
#pragma GCC unroll 4
      for (int a = 0; a < Tokens; ++a) {
        const vf weight = broadcast(rdm[t + a][k]);
        sum[a][0] = vfma(weight, p0, sum[a][0]), sum[a][1] = vfma(weight, p1, sum[a][1]);
      }
    }
#pragma GCC unroll 4
    for (int a = 0; a < Tokens; ++a)
      store2<Full, Streaming>(dx + ((t + a) * n + j) * channels + column, width, sum[a]);
  }

  template <bool Full, bool Streaming>
  void finish_block(int64_t column, int j, const float* phi, bool first, float* grad_phi) const {
    const int64_t width = channels - column;
    alignas(64) float xs[kTile * kBlock];
    for (int64_t t = 0; t < count; ++t) {
      const T* from = x + (t * n + j) * channels + column;
      vf value[2];
      load2<Full>(from, width, value);
      store2<true, false>(xs + t * kBlock, kBlock, value);
      // The next block of these rows: 16 rows are too many for the hardware's prefetcher.
      __builtin_prefetch(from + kBlock);
      __builtin_prefetch(partial_dx + (t * n + j) * row_floats(channels) + column + kBlock);
    }
    constexpr int rows = Count % 6 == 0 ? 6 : Count % 4 == 0 ? 4 : Count;
    for (int k = 0; k < Count; k += rows) add_grad_phi<rows>(k, xs, first, grad_phi);
    int64_t t = 0;
    for (; t + 4 <= count; t += 4) write_dx<4, Full, Streaming>(t, j, column, width, xs, phi);
    for (; t < count; ++t) write_dx<1, Full, Streaming>(t, j, column, width, xs, phi);
  }

  template <bool Streaming>
  void finish(const Packed<n, Count>& layout, const float* phi, bool first, float* grad_phi) const {
    const int64_t whole = channels / kBlock;
    for (int64_t block = 0; block < layout.blocks(); ++block)
      for (int j = 0; j < n; ++j) {
        const int64_t at = layout.offset(block, j);
        if (block < whole)
          finish_block<true, Streaming>(block * kBlock, j, phi + at, first, grad_phi + at);
        else
          finish_block<false, false>(block * kBlock, j, phi + at, first, grad_phi + at);
      }
  }
};

// The coefficients of a tile, one token per lane. Kept apart from the streams' type: this is much code.
template <int n, bool Head>
struct Gates {
  using Coefs = Coefficients<n, Head, vf>;
  static constexpr int N = Coefs::kCount;
  float m[N][kTile];
  Coefs coefficients[kTile / W];
  vf divisors[kTile / W][Head ? 1 : 2 * kMaxSinkhornIters * n];

  // The coefficients again, from q and r; the divisors of Sinkhorn are kept for its backward.
  __attribute__((noinline)) void forward(const MhcPreBackwardArgs& args, int64_t count, const float (*q)[kTile], const float* r,
                                         float (*pre)[n], float (*res)[n * n]) {
    const float shift = pre_shift(args.options);
    for (int v = 0; v * W < count; ++v) {
      vf lanes[N];
      for (int k = 0; k < N; ++k) {
        lanes[k] = load(r + v * W) * load(&q[k][v * W]);
        store(&m[k][v * W], lanes[k]);
      }
      Coefs& coefs = coefficients[v];
      coefs.compute(lanes, args.alpha.f32(), args.bias.f32(), args.options, divisors[v]);
      for (int lane = 0; lane < W; ++lane) {
        for (int i = 0; i < n; ++i) pre[v * W + lane][i] = coefs.pre[i][lane] + shift;
        if constexpr (!Head)
          for (int k = 0; k < n * n; ++k) res[v * W + lane][k] = coefs.res[k][lane];
      }
    }
  }

  // Gradients of the coefficients to gradients of the logits.
  __attribute__((noinline)) void backward(const MhcPreBackwardArgs& args, int64_t count, const float (*grad_pre)[kTile],
                                          const float (*grad_post)[kTile], const float (*grad_res)[kTile], float (*dz)[kTile]) {
    for (int v = 0; v * W < count; ++v) {
      vf dpre[n], dpost[n], dres[n * n], dlogits[N];
      load_vectors(grad_pre, v * W, dpre), load_vectors(grad_post, v * W, dpost), load_vectors(grad_res, v * W, dres);
      coefficients[v].backward(dpre, dpost, dres, args.options, divisors[v], dlogits);
      store_vectors(dz, v * W, dlogits);
    }
  }
};

template <int n, bool Head, class T>
void backward(const MhcPreBackwardArgs& args) {
  constexpr int N = Gates<n, Head>::N;
  const int64_t C = args.channels, K = n * C;
  const Packed<n, N> layout{C};
  float* packed = static_cast<float*>(args.scratch);
  float* partials = packed + layout.size();
  const int64_t partial_count = args.partials();
  double* sums = reinterpret_cast<double*>(partials + ceil_div(partial_count * layout.size(), 16) * 16);
  layout.pack(args.phi.f32(), packed);
  const int64_t tiles = ceil_div(args.tokens, kTile);
  const bool streaming = streams_past_caches(args.grad_x.data, C, args.grad_x.size * 4) && args.grad_x.dtype == DType::kFloat32;

  parallel(partial_count, [&](int64_t p) {
    double* sum = sums + p * (N + 3);  // dbias, then dalpha
    for (int k = 0; k < N + 3; ++k) sum[k] = 0;
    float* buffer = tile_workspace(Tile<n, N, T>::workspace_floats(C));
    const int64_t begin = tiles * p / partial_count, end = tiles * (p + 1) / partial_count;
    for (int64_t index = begin; index < end; ++index) {
      const int64_t start = index * kTile, count = min64(kTile, args.tokens - start);
      Tile<n, N, T> tile;
      tile.x = args.x.as<T>() + start * K;
      tile.du = args.grad_input ? args.grad_input.as<T>() + start * C : nullptr;
      tile.dy = args.grad_output ? args.grad_output.as<T>() + start * K : nullptr;
      tile.dx = args.grad_x.as<T>() + start * K;
      tile.count = count, tile.channels = C;
      tile.partial_dx = buffer;

      float q[N][kTile], r[1][kTile], grad_pre[n][kTile] = {}, grad_post[n][kTile] = {}, grad_res[n * n][kTile] = {};
      load_lanes(args.q.f32() + start * N, N, count, q);
      load_lanes(args.r.f32() + start, 1, count, r);
      if (args.grad_pre) load_lanes(args.grad_pre.f32() + start * n, n, count, grad_pre);
      if (args.grad_post) load_lanes(args.grad_post.f32() + start * n, n, count, grad_post);
      if (args.grad_res) load_lanes(args.grad_res.f32() + start * n * n, n * n, count, grad_res);

      Gates<n, Head> gates;
      gates.forward(args, count, q, r[0], tile.pre, tile.res);
      for (int64_t t = 0; t < count; ++t) tile.gather(t, grad_pre);

      float dz[N][kTile];
      gates.backward(args, count, grad_pre, grad_post, grad_res, dz);
      for (int64_t t = 0; t < count; ++t) {
        float dot = 0;
        for (int k = 0; k < N; ++k) {
          const int group = coefficient_group<n>(k);
          sum[k] += dz[k][t];
          sum[N + group] += static_cast<double>(dz[k][t]) * gates.m[k][t];
          const float dm = args.alpha.f32()[group] * dz[k][t];
          dot = vfma(dm, gates.m[k][t], dot);
          tile.rdm[t][k] = r[0][t] * dm;
        }
        tile.norm_term[t] = -(r[0][t] * r[0][t] / static_cast<float>(K)) * dot;
      }
      float* grad_phi = partials + p * layout.size();
      if (std::is_same_v<T, float> && streaming)
        tile.template finish<std::is_same_v<T, float>>(layout, packed, index == begin, grad_phi);
      else
        tile.template finish<false>(layout, packed, index == begin, grad_phi);
    }
    if (begin == end) memset(partials + p * layout.size(), 0, sizeof(float) * layout.size());
  });

  layout.fold(partials, partial_count, args.grad_phi.f32());
  for (int k = 0; k < N + (Head ? 1 : 3); ++k) {
    double total = 0;
    for (int64_t p = 0; p < partial_count; ++p) total += sums[p * (N + 3) + k];
    (k < N ? args.grad_bias.f32()[k] : args.grad_alpha.f32()[k - N]) = static_cast<float>(total);
  }
}

}  // namespace

void mhc_pre_backward(const MhcPreBackwardArgs& args) {
  with_streams(args.n, [&](auto n) {
    with_float_type(args.x.dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      if (args.head())
        backward<n(), true, T>(args);
      else
        backward<n(), false, T>(args);
    });
  });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
