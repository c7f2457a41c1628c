// mhcPre backward ("finish") on CPU, per tile of 16 tokens: dpre = <du, x_i> brings the tile into cache; the coefficient
// backward runs with one token per lane; then dx (four terms, one rounding) and the tile's share of dphi come from one more
// pass over the cached tile. dphi, dalpha and dbias are summed in at most 32 partials, folded in order.
#include "cpu/kernels.h"
#include "cpu/streams.h"
#include "cpu/tokens.h"

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

template <bool Full, class T>
BIRKHOFF_INLINE void store2(T* p, int64_t width, bool streaming, const vf (&v)[2]) {
  if constexpr (!Full) {
    store_partial(p, v[0], min64(W, width));
    if (width > W) store_partial(p + W, v[1], width - W);
  } else if (streaming) {
    store_stream(p, v[0]), store_stream(p + W, v[1]);
  } else {
    store(p, v[0]), store(p + W, v[1]);
  }
}

// What one tile needs in its pass over columns; rows are per token.
template <int n, int Count, class T>
struct Tile {
  const T *x, *du, *dy;  // du, dy may be null
  T* dx;
  const float* packed;
  float* partial;
  int64_t count, channels;
  bool first, streaming;
  float pre[kTile][n], res[kTile][n * n], rdm[kTile][Count], norm_term[kTile];

  // dx of Tokens tokens in one block of one stream.
  template <int Tokens, bool Full>
  MHC_HD void finish(int t, int j, int64_t column, int64_t width, const float* phi) const {
    vf sum[Tokens][2];
#pragma GCC unroll 4
    for (int a = 0; a < Tokens; ++a) {
      const int64_t token = t + a;
      vf value[2];
      load2<Full>(x + (token * n + j) * channels + column, width, value);
      const vf norm = broadcast(norm_term[token]);
      sum[a][0] = norm * value[0], sum[a][1] = norm * value[1];
      if (du) {
        load2<Full>(du + token * channels + column, width, value);
        const vf weight = broadcast(pre[token][j]);
        sum[a][0] = vfma(weight, value[0], sum[a][0]), sum[a][1] = vfma(weight, value[1], sum[a][1]);
      }
      if (dy) {
#pragma GCC unroll 8
        for (int i = 0; i < n; ++i) {
          load2<Full>(dy + (token * n + i) * channels + column, width, value);
          const vf weight = broadcast(res[token][i * n + j]);
          sum[a][0] = vfma(weight, value[0], sum[a][0]), sum[a][1] = vfma(weight, value[1], sum[a][1]);
        }
      }
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
      store2<Full>(dx + ((t + a) * n + j) * channels + column, width, streaming, sum[a]);
  }

  // Adds the tile's share of dphi in one block of one stream, Rows rows at a time.
  template <int Rows, bool Full>
  MHC_HD void add_grad_phi(int k, int j, int64_t column, int64_t width, float* target) const {
    vf sum[Rows][2] = {};
    if (!first)
#pragma GCC unroll 6
      for (int a = 0; a < Rows; ++a)
        sum[a][0] = load(target + (k + a) * kBlock), sum[a][1] = load(target + (k + a) * kBlock + W);
    for (int64_t t = 0; t < count; ++t) {
      vf value[2];
      load2<Full>(x + (t * n + j) * channels + column, width, value);
#pragma GCC unroll 6
      for (int a = 0; a < Rows; ++a) {
        const vf weight = broadcast(rdm[t][k + a]);
        sum[a][0] = vfma(weight, value[0], sum[a][0]), sum[a][1] = vfma(weight, value[1], sum[a][1]);
      }
    }
#pragma GCC unroll 6
    for (int a = 0; a < Rows; ++a)
      store(target + (k + a) * kBlock, sum[a][0]), store(target + (k + a) * kBlock + W, sum[a][1]);
  }

  template <bool Full>
  MHC_HD void block(const Packed<n, Count>& layout, int64_t index) const {
    const int64_t column = index * kBlock, width = channels - column;
    for (int j = 0; j < n; ++j) {
      const int64_t offset = layout.offset(index, j);
      constexpr int rows = Count % 6 == 0 ? 6 : Count % 4 == 0 ? 4 : Count;
      for (int k = 0; k < Count; k += rows) add_grad_phi<rows, Full>(k, j, column, width, partial + offset);
    }
    int t = 0;
    for (; t + 4 <= count; t += 4)
      for (int j = 0; j < n; ++j) finish<4, Full>(t, j, column, width, packed + layout.offset(index, j));
    for (; t < count; ++t)
      for (int j = 0; j < n; ++j) finish<1, Full>(t, j, column, width, packed + layout.offset(index, j));
  }

  void run(const Packed<n, Count>& layout) const {
    const int64_t whole = channels / kBlock;
    for (int64_t index = 0; index < whole; ++index) block<true>(layout, index);
    if (whole < layout.blocks()) block<false>(layout, whole);
  }
};

// <du, x_i> of one token.
template <int n, class T>
BIRKHOFF_INLINE void input_products(const T* x, const T* du, int64_t channels, float* products) {
  vf sum[n] = {};
  for (int64_t c = 0; c < channels; c += W) {
    const int64_t count = min64(W, channels - c);
    const vf d = count == W ? load(du + c) : load_partial(du + c, count);
#pragma GCC unroll 8
    for (int i = 0; i < n; ++i) {
      const T* p = x + i * channels + c;
      sum[i] = vfma(d, count == W ? load(p) : load_partial(p, count), sum[i]);
    }
  }
  for (int i = 0; i < n; ++i) products[i] = sum_lanes(sum[i]);
}

template <int n, bool Head, class T>
void backward(const MhcPreBackwardArgs& args) {
  using Coefs = Coefficients<n, Head, vf>;
  constexpr int N = Coefs::kCount;
  const int64_t C = args.channels, K = n * C;
  const Packed<n, N> layout{C};
  float* packed = static_cast<float*>(args.scratch);
  float* partials = packed + layout.size();
  const int64_t partial_count = args.partials();
  double* sums = reinterpret_cast<double*>(partials + ceil_div(partial_count * layout.size(), 16) * 16);
  layout.pack(args.phi.f32(), packed);
  const vf shift = broadcast(pre_shift(args.options));
  const int64_t tiles = ceil_div(args.tokens, kTile);
  const bool streaming = streams_past_caches(args.grad_x.data, C, args.grad_x.size * 4) && args.grad_x.dtype == DType::kFloat32;

  parallel(partial_count, [&](int64_t p) {
    double* sum = sums + p * (N + 3);  // dbias, then dalpha
    for (int k = 0; k < N + 3; ++k) sum[k] = 0;
    const int64_t begin = tiles * p / partial_count, end = tiles * (p + 1) / partial_count;
    for (int64_t index = begin; index < end; ++index) {
      const int64_t start = index * kTile, count = min64(kTile, args.tokens - start);
      Tile<n, N, T> tile;
      tile.x = args.x.as<T>() + start * K;
      tile.du = args.grad_input ? args.grad_input.as<T>() + start * C : nullptr;
      tile.dy = args.grad_output ? args.grad_output.as<T>() + start * K : nullptr;
      tile.dx = args.grad_x.as<T>() + start * K;
      tile.packed = packed, tile.partial = partials + p * layout.size();
      tile.count = count, tile.channels = C, tile.first = index == begin, tile.streaming = streaming;

      float q[N][kTile], r[1][kTile], grad_pre[n][kTile] = {}, grad_post[n][kTile] = {}, grad_res[n * n][kTile] = {};
      load_lanes(args.q.f32() + start * N, N, count, q);
      load_lanes(args.r.f32() + start, 1, count, r);
      if (args.grad_pre) load_lanes(args.grad_pre.f32() + start * n, n, count, grad_pre);
      if (args.grad_post) load_lanes(args.grad_post.f32() + start * n, n, count, grad_post);
      if (args.grad_res) load_lanes(args.grad_res.f32() + start * n * n, n * n, count, grad_res);
      if (tile.du)
        for (int64_t t = 0; t < count; ++t) {
          float products[n];
          input_products<n>(tile.x + t * K, tile.du + t * C, C, products);
          for (int i = 0; i < n; ++i) grad_pre[i][t] += products[i];
        }

      float dz[N][kTile], m[N][kTile], pre[n][kTile], res[n * n][kTile];
      for (int t = 0; t < count; t += W) {
        vf lanes[N], dpre[n], dpost[n], dres[n * n], dlogits[N];
        vf divisors[Head ? 1 : 2 * kMaxSinkhornIters * n];
        const vf scale = load(&r[0][t]);
        for (int k = 0; k < N; ++k) {
          lanes[k] = scale * load(&q[k][t]);
          store(&m[k][t], lanes[k]);
        }
        load_vectors(grad_pre, t, dpre), load_vectors(grad_post, t, dpost), load_vectors(grad_res, t, dres);
        Coefs coefficients;
        coefficients.compute(lanes, args.alpha.f32(), args.bias.f32(), args.options, divisors);
        if constexpr (!Head) store_vectors(res, t, coefficients.res);
        coefficients.backward(dpre, dpost, dres, args.options, divisors, dlogits);
#pragma GCC unroll 8
        for (int i = 0; i < n; ++i) coefficients.pre[i] = coefficients.pre[i] + shift;
        store_vectors(pre, t, coefficients.pre);
        store_vectors(dz, t, dlogits);
      }
      for (int64_t t = 0; t < count; ++t) {
        float dot = 0;
        for (int k = 0; k < N; ++k) {
          const int group = coefficient_group<n>(k);
          sum[k] += dz[k][t];
          sum[N + group] += static_cast<double>(dz[k][t]) * m[k][t];
          const float dm = args.alpha.f32()[group] * dz[k][t];
          dot = vfma(dm, m[k][t], dot);
          tile.rdm[t][k] = r[0][t] * dm;
        }
        tile.norm_term[t] = -(r[0][t] * r[0][t] / static_cast<float>(K)) * dot;
        for (int i = 0; i < n; ++i) tile.pre[t][i] = pre[i][t];
        if constexpr (!Head)
          for (int k = 0; k < n * n; ++k) tile.res[t][k] = res[k][t];
      }
      tile.run(layout);
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
