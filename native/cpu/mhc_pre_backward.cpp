// mhcPre backward ("finish") on CPU, per tile of 16 tokens:
//   gather   one sequential read of x, du and dy: dpre = <du, x_i>; x, and the terms of dx that need nothing else, are
//   packed by
//            blocks of columns (rows a power of two apart would push each other out of the cache)
//   gates    coefficient backward, one token per lane
//   finish   per block: the tile's share of dphi, and the other terms of dx
//   scatter  dx is written row by row, rounded once
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

// What one tile needs; rows are per token.
template <int n, int Count, class T>
struct Tile {
  const T *x, *du, *dy;  // du, dy may be null
  T* dx;
  int64_t count, channels;
  // [column block][stream][token][kBlock], zero-padded: x, and sum_i res_ij dy_i + pre_j du, which becomes dx.
  float *packed_x, *packed_dx;
  float pre[kTile][n], res[kTile][n * n], rdm[kTile][Count], norm_term[kTile];

  static int64_t workspace_floats(int64_t channels) { return 2 * ceil_div(channels, kBlock) * n * kTile * kBlock; }
  static int64_t offset(int64_t block, int stream) { return (block * n + stream) * kTile * kBlock; }

  static MHC_HD void store2(float* p, const vf (&v)[2]) { store(p, v[0]), store(p + W, v[1]); }

  // One block of one token; adds <du, x_i> to products.
  template <bool Full>
  MHC_HD void gather_block(int64_t t, int64_t block, vf (&products)[n]) const {
    const int64_t column = block * kBlock, width = channels - column, at = offset(block, 0) + t * kBlock;
    vf sum[n][2] = {}, d[2] = {}, value[2];
    if (du) load2<Full>(du + t * channels + column, width, d);
#pragma GCC unroll 8
    for (int j = 0; j < n; ++j) {
      load2<Full>(x + (t * n + j) * channels + column, width, value);
      store2(packed_x + at + j * kTile * kBlock, value);
      products[j] = vfma(d[1], value[1], vfma(d[0], value[0], products[j]));
      const vf weight = broadcast(pre[t][j]);
      sum[j][0] = weight * d[0], sum[j][1] = weight * d[1];
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
    for (int j = 0; j < n; ++j) store2(packed_dx + at + j * kTile * kBlock, sum[j]);
  }

  void gather(int64_t t, float (*grad_pre)[kTile]) const {
    vf products[n] = {};
    const int64_t whole = channels / kBlock;
    for (int64_t block = 0; block < whole; ++block) gather_block<true>(t, block, products);
    if (whole * kBlock < channels) gather_block<false>(t, whole, products);
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

  template <int Tokens>
  void add_projection(int64_t t, const float* xs, float* dxs, const float* phi) const {
    vf sum[Tokens][2];
#pragma GCC unroll 6
    for (int a = 0; a < Tokens; ++a) {
      const vf norm = broadcast(norm_term[t + a]);
      const float *from = xs + (t + a) * kBlock, *to = dxs + (t + a) * kBlock;
      sum[a][0] = vfma(norm, load(from), load(to)), sum[a][1] = vfma(norm, load(from + W), load(to + W));
    }
    for (int k = 0; k < Count; ++k) {
      const vf p0 = load(phi + k * kBlock), p1 = load(phi + k * kBlock + W);
#pragma GCC unroll 6
      for (int a = 0; a < Tokens; ++a) {
        const vf weight = broadcast(rdm[t + a][k]);
        sum[a][0] = vfma(weight, p0, sum[a][0]), sum[a][1] = vfma(weight, p1, sum[a][1]);
      }
    }
#pragma GCC unroll 6
    for (int a = 0; a < Tokens; ++a) store2(dxs + (t + a) * kBlock, sum[a]);
  }

  void finish(const Packed<n, Count>& layout, const float* phi, bool first, float* grad_phi) const {
    constexpr int rows = Count % 6 == 0 ? 6 : Count % 4 == 0 ? 4 : Count;
    for (int64_t block = 0; block < layout.blocks(); ++block)
      for (int j = 0; j < n; ++j) {
        const float* xs = packed_x + offset(block, j);
        float* dxs = packed_dx + offset(block, j);
        for (int k = 0; k < Count; k += rows) add_grad_phi<rows>(k, xs, first, grad_phi + layout.offset(block, j));
        int64_t t = 0;
        for (; t + 6 <= count; t += 6) add_projection<6>(t, xs, dxs, phi + layout.offset(block, j));
        for (; t + 4 <= count; t += 4) add_projection<4>(t, xs, dxs, phi + layout.offset(block, j));
        for (; t < count; ++t) add_projection<1>(t, xs, dxs, phi + layout.offset(block, j));
      }
  }

  template <bool Streaming>
  void scatter() const {
    for (int64_t t = 0; t < count; ++t)
      for (int j = 0; j < n; ++j) {
        T* row = dx + (t * n + j) * channels;
        for (int64_t c = 0; c < channels; c += W) {
          const vf value = load(packed_dx + offset(c / kBlock, j) + t * kBlock + c % kBlock);
          if constexpr (Streaming)
            store_stream(row + c, value);
          else if (c + W <= channels)
            store(row + c, value);
          else
            store_partial(row + c, value, channels - c);
        }
      }
  }
};

// The coefficients of a tile, one token per lane. Kept apart from the streams' type: this is much code.
template <int n, bool Head>
struct Gates {
  using Coefs = Coefficients<n, Head, vf>;
  static constexpr int N = Coefs::kCount;
  float m[N][kTile];
  struct Projected {  // of one vector of tokens
    const float (*m)[kTile];
    int token;
    MHC_HD vf operator[](int k) const { return load(&m[k][token]); }
  };
  Coefs coefficients[kTile / W];
  vf divisors[kTile / W][Head ? 1 : 2 * kMaxSinkhornIters * n];

  // The coefficients again, from q and r; the divisors of Sinkhorn are kept for its backward.
  __attribute__((noinline)) void forward(const MhcPreBackwardArgs& args, int64_t count, const float (*q)[kTile],
                                         const float* r, float (*pre)[n], float (*res)[n * n]) {
    const float shift = pre_shift(args.options);
    for (int v = 0; v * W < count; ++v) {
      vf lanes[N];
      for (int k = 0; k < N; ++k) {
        lanes[k] = load(r + v * W) * load(&q[k][v * W]);
        store(&m[k][v * W], lanes[k]);
      }
      Coefs& coefs = coefficients[v];
      coefs.compute(lanes, args.alpha.f32(), args.bias.f32(), args.options, Sums<vf>{divisors[v]});
      for (int lane = 0; lane < W; ++lane) {
        for (int i = 0; i < n; ++i) pre[v * W + lane][i] = coefs.pre[i][lane] + shift;
        if constexpr (!Head)
          for (int k = 0; k < n * n; ++k) res[v * W + lane][k] = coefs.res[k][lane];
      }
    }
  }

  // Gradients of the coefficients to gradients of the logits.
  __attribute__((noinline)) void backward(const MhcPreBackwardArgs& args, int64_t count, const float (*grad_pre)[kTile],
                                          const float (*grad_post)[kTile], const float (*grad_res)[kTile],
                                          float (*dz)[kTile]) {
    for (int v = 0; v * W < count; ++v) {
      vf dpre[n], dpost[n], dres[n * n], dlogits[N];
      load_vectors(grad_pre, v * W, dpre), load_vectors(grad_post, v * W, dpost), load_vectors(grad_res, v * W, dres);
      coefficients[v].backward(Projected{m, v * W}, args.alpha.f32(), args.bias.f32(), dpre, dpost, dres, args.options,
                               Sums<vf>{divisors[v]}, dlogits);
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
  const bool streaming =
      streams_past_caches(args.grad_x.data, C, args.grad_x.size * 4) && args.grad_x.dtype == DType::kFloat32;

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
      tile.packed_x = buffer, tile.packed_dx = buffer + Tile<n, N, T>::workspace_floats(C) / 2;

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
      tile.finish(layout, packed, index == begin, partials + p * layout.size());
      if (std::is_same_v<T, float> && streaming)
        tile.template scatter<std::is_same_v<T, float>>();
      else
        tile.template scatter<false>();
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
