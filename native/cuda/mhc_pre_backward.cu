// mhcPre backward on CUDA, second half ("finish"): dx and dphi in one read of x, dy and du, on tensor cores.
//
//   dx_j = sum_i res_ij dy_i + pre_j du + [(r dm) phi]_j - (r^2 / K) <dm, m> x_j, in float32, rounded once
//   dphi = sum_t (r dm)^T v
//
// A warp owns 8 L columns of one stream (L = 8, for eight streams 4) and walks through a part of the tokens, 16 at a
// time. With g = lane / 4 and p = lane % 4 a lane holds the tokens 2p, 2p + 1, 2p + 8, 2p + 9 and the columns L g ..
// L g + L - 1: L elements per load, whole lines per token. That is the layout of mma's right operand for dphi (tokens
// are summed over), once pairs of tokens are put together, and of its result for dx^T = phi^T (r dm)^T, so x is loaded
// once and nothing is shuffled. dphi stays in registers; the parts' sums are folded in order.
#include "cuda/bf16_terms.h"
#include "cuda/coefficient_backward.h"
#include "cuda/ptx.h"

namespace birkhoff::cuda {
namespace {

template <int n>
inline constexpr int kLaneColumns = n < 8 ? 8 : 4;
template <int n>
inline constexpr int kRowSteps = (n * n + 2 * n + 15) / 16;
// Terms of phi and r dm in dx: what its rounding lets through.
template <class T>
inline constexpr int kInputTerms = std::is_same_v<T, bfloat16> ? 2 : 3;

// Whether everything is loaded a phase before it is used. Where registers do not go that far, dy and du are loaded
// where they are used.
template <int n, class T>
inline constexpr bool kEarly = n < 4 || std::is_same_v<T, bfloat16>;

// phi as bfloat16 terms in the order of mma's left operand, transposed: rows are columns of phi.
template <int n>
__global__ void __launch_bounds__(256)
    phi_terms_kernel(const float* phi, int rows, int64_t C, int64_t items, uint4* packed) {
  constexpr int L = kLaneColumns<n>;
  const int64_t item = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (item >= items) return;
  const int lane = static_cast<int>(item % 32), g = lane / 4, p = lane % 4;
  int64_t rest = item / 32;
  const int step = static_cast<int>(rest % kRowSteps<n>);
  rest /= kRowSteps<n>;
  const int pair = static_cast<int>(rest % (L / 2));
  rest /= L / 2;
  const int stream = static_cast<int>(rest % n);
  const int64_t column = rest / n * 8 * L + L * g + 2 * pair;
  const auto at = [&](int row, int offset) {
    row += step * 16;
    return row < rows && column + offset < C ? phi[(int64_t{row} * n + stream) * C + column + offset] : 0.0f;
  };
  uint32_t terms[4][3];
  split_pair(at(2 * p, 0), at(2 * p + 1, 0), terms[0]);
  split_pair(at(2 * p, 1), at(2 * p + 1, 1), terms[1]);
  split_pair(at(2 * p + 8, 0), at(2 * p + 9, 0), terms[2]);
  split_pair(at(2 * p + 8, 1), at(2 * p + 9, 1), terms[3]);
#pragma unroll
  for (int term = 0; term < 3; ++term)
    packed[(item / 32 * 3 + term) * 32 + lane] =
        make_uint4(terms[0][term], terms[1][term], terms[2][term], terms[3][term]);
}

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

// What one token adds to dx beside the product and x.
template <int n, bool Vector, class T>
struct Incoming {
  static constexpr int L = kLaneColumns<n>;
  float weights[n + 2];
  Columns<L, Vector, T> dy[n], du;

  __device__ __forceinline__ void load(const FinishArgs<T>& a, int64_t token, int j, int64_t c, int count) {
    const float* const from = a.scratch.weights + (token * n + j) * (n + 2);
    weights[n] = from[n], weights[n + 1] = from[n + 1];
    if (kEarly<n, T> && a.dy)
#pragma unroll
      for (int i = 0; i < n; ++i) load_dy(a, token, j, i, c, count);
    if (kEarly<n, T> && a.du) du.load(a.du + token * a.channels + c, count);
  }
  __device__ __forceinline__ void load_dy(const FinishArgs<T>& a, int64_t token, int j, int i, int64_t c, int count) {
    weights[i] = a.scratch.weights[(token * n + j) * (n + 2) + i];
    dy[i].load(a.dy + (token * n + i) * a.channels + c, count);
  }
};

template <int L, bool Vector, class T>
__device__ __forceinline__ void store_columns(T* p, int64_t count, const float (&v)[L]) {
  if constexpr (L == 8) {
    store_some<Vector>(p, count, v);
  } else if constexpr (!Vector) {
#pragma unroll
    for (int k = 0; k < L; ++k)
      if (k < count) from_float(v[k], p[k]);
  } else if constexpr (std::is_same_v<T, float>) {
    *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
  } else {
    *reinterpret_cast<uint2*>(p) = make_uint2(pack_pair(v[0], v[1]), pack_pair(v[2], v[3]));
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

__device__ __forceinline__ void multiply(float (&d)[4], const uint4& left, uint32_t right_low, uint32_t right_high) {
  const uint32_t a[4] = {left.x, left.y, left.z, left.w}, b[2] = {right_low, right_high};
  ptx::mma_bf16(d, a, b);
}

template <int n, bool Vector, class T>
__global__ void __launch_bounds__(256) finish_kernel(const FinishArgs<T> a) {
  constexpr int L = kLaneColumns<n>, kSteps = kRowSteps<n>, kIn = kInputTerms<T>, kOwn = kTermsOf<T>;
  constexpr bool kAll = kEarly<n, T>;
  constexpr int kAhead = kAll ? 2 : 1;
  constexpr int kPhi = L / 2 * kSteps * kIn;  // operands of phi per lane
  BIRKHOFF_DYNAMIC_SHARED(uint4, shared);     // phi's operands, each warp its own
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, p = lane % 4;
  const int64_t job = int64_t{blockIdx.x} * (blockDim.x / 32) + warp, C = a.channels;
  if (job >= a.column_groups * n) return;
  const int j = static_cast<int>(job % n);
  const int64_t c = job / n * 8 * L + L * g;
  uint4* const phi = shared + warp * kPhi * 32 + lane;
#pragma unroll
  for (int k = 0; k < kPhi; ++k)
    phi[k * 32] = a.scratch.phi[((job * (L / 2) * kSteps + k / kIn) * 3 + k % kIn) * 32 + lane];

  float dphi[kSteps][L][4] = {};
  const int64_t first = int64_t{blockIdx.y} * a.tiles_per_part;
  const int64_t end = first + a.tiles_per_part < a.token_tiles ? first + a.tiles_per_part : a.token_tiles;
  // Where kEarly, everything is loaded a phase before it is used: dy, du and weights of kAhead tokens, x, and the first
  // step of the gradients. What is out of range is read at a valid place, for loads behind a branch would wait for one
  // another.
  const int64_t from = c < C ? c : 0;
  const int count = C - from < L ? static_cast<int>(C - from) : L;
  const auto token_of = [&](int64_t tile, int e) { return tile * 16 + 2 * p + e % 2 + 8 * (e / 2); };
  const auto valid = [&](int64_t token) { return token < a.tokens ? token : a.tokens - 1; };
  Incoming<n, Vector, T> incoming[kAhead];
  Columns<L, Vector, T> x[4];
  uint4 right[kIn], left[3];
  const auto load_incoming = [&](int64_t tile, int e) {
    incoming[e % kAhead].load(a, valid(token_of(tile, e)), j, from, count);
  };
  const auto load_x_and_right = [&](int64_t tile) {
#pragma unroll
    for (int e = 0; e < 4; ++e) x[e].load(a.x + (valid(token_of(tile, e)) * n + j) * C + from, count);
#pragma unroll
    for (int term = 0; term < kIn; ++term)
      right[term] = a.scratch.gradients_right[(tile * kSteps * 3 + term) * 32 + lane];
  };
  const auto load_first = [&](int64_t tile) {
    load_x_and_right(tile);
#pragma unroll
    for (int e = 0; e < kAhead; ++e) load_incoming(tile, e);
  };
  if (first < end) load_first(first);
  for (int64_t tile = first; tile < end; ++tile) {
    const int64_t next = tile + 1 < end ? tile + 1 : tile;
    const int64_t gradients = tile * kSteps * 3 * 32 + lane;

    float product[L / 2][2][4] = {};  // [column pair][half of the tokens]: (r dm) phi
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int term = 0; term < kIn; ++term) {
        const uint4 gradient = step == 0 ? right[term] : a.scratch.gradients_right[gradients + (step * 3 + term) * 32];
#pragma unroll
        for (int own = 0; own + term < kIn; ++own)
#pragma unroll
          for (int pair = 0; pair < L / 2; ++pair) {
            const uint4 operand = phi[((pair * kSteps + step) * kIn + own) * 32];
            multiply(product[pair][0], operand, gradient.x, gradient.y);
            multiply(product[pair][1], operand, gradient.z, gradient.w);
          }
      }

#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int64_t token = token_of(tile, e);
      auto& with = incoming[e % kAhead];
      float sum[L];
#pragma unroll
      for (int k = 0; k < L; ++k) sum[k] = vfma(with.weights[n + 1], x[e][k], product[k / 2][e / 2][k % 2 * 2 + e % 2]);
      if (a.dy)
#pragma unroll
        for (int i = 0; i < n; ++i) {
          if constexpr (!kAll) with.load_dy(a, valid(token), j, i, from, count);
#pragma unroll
          for (int k = 0; k < L; ++k) sum[k] = vfma(with.weights[i], with.dy[i][k], sum[k]);
        }
      if (a.du) {
        if constexpr (!kAll) with.du.load(a.du + valid(token) * C + from, count);
#pragma unroll
        for (int k = 0; k < L; ++k) sum[k] = vfma(with.weights[n], with.du[k], sum[k]);
      }
      // Before the store: the compiler moves no load ahead of one.
      if (kAll || e + kAhead < 4) load_incoming(e + kAhead < 4 ? tile : next, (e + kAhead) % 4);
      if (kAll && e == 2)
#pragma unroll
        for (int term = 0; term < 3; ++term) left[term] = a.scratch.gradients_left[gradients + term * 32];
      if (token < a.tokens && c < C) store_columns<L, Vector>(a.dx + (token * n + j) * C + c, count, sum);
    }

    // dphi sums over tokens: where there is none x is zero, as r dm is, for NaN read in its place would spread.
#pragma unroll
    for (int e = 0; e < 4; ++e)
#pragma unroll
      for (uint32_t& word : x[e].words) word = token_of(tile, e) < a.tokens ? word : 0;
    uint32_t low[L][kOwn], high[L][kOwn];
#pragma unroll
    for (int k = 0; k < L; ++k) {
      token_pair<T>(x[0][k], x[1][k], low[k]);
      token_pair<T>(x[2][k], x[3][k], high[k]);
    }
    if constexpr (kAll) load_x_and_right(next);
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int term = 0; term < 3; ++term) {
        const uint4 gradient =
            kAll && step == 0 ? left[term] : a.scratch.gradients_left[gradients + (step * 3 + term) * 32];
#pragma unroll
        for (int own = 0; own + term < 3 && own < kOwn; ++own)
#pragma unroll
          for (int k = 0; k < L; ++k) multiply(dphi[step][k], gradient, low[k][own], high[k][own]);
      }
    if constexpr (!kAll) load_first(next);
  }

  float* const partial = a.scratch.partials + int64_t{blockIdx.y} * a.rows * n * C;
#pragma unroll
  for (int step = 0; step < kSteps; ++step)
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const int row = step * 16 + g + 8 * half;
        const int64_t column = job / n * 8 * L + L * (2 * p + side);
        if (row >= a.rows) continue;
        float* const target = partial + (int64_t{row} * n + j) * C + column;
        const int r = 2 * half + side;
        if constexpr (Vector) {
#pragma unroll
          for (int k = 0; k < L; k += 4)
            if (column < C)
              *reinterpret_cast<float4*>(target + k) =
                  make_float4(dphi[step][k][r], dphi[step][k + 1][r], dphi[step][k + 2][r], dphi[step][k + 3][r]);
        } else {
#pragma unroll
          for (int k = 0; k < L; ++k)
            if (column + k < C) target[k] = dphi[step][k][r];
        }
      }
}

__global__ void __launch_bounds__(256) fold_phi_kernel(const float* partials, int64_t parts, int64_t size, float* out) {
  const int64_t at = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at >= size) return;
  double total = 0;
  for (int64_t part = 0; part < parts; ++part) total += partials[part * size + at];
  out[at] = static_cast<float>(total);
}

template <int n, bool Vector, class T>
void finish(const MhcPreBackwardArgs& args, const FinishShape& shape, const FinishScratch& scratch) {
  const int64_t items = shape.column_groups() * n * (kLaneColumns<n> / 2) * kRowSteps<n> * 32;
  launch(phi_terms_kernel<n>, static_cast<unsigned>(ceil_div(items, 256)), 256, 0, args.phi.f32(),
         static_cast<int>(args.coefficients()), args.channels, items, scratch.phi);
  const FinishArgs<T> finish_args{.x = args.x.as<T>(),
                                  .du = args.grad_input.as<T>(),
                                  .dy = args.grad_output.as<T>(),
                                  .dx = args.grad_x.as<T>(),
                                  .scratch = scratch,
                                  .tokens = args.tokens,
                                  .channels = args.channels,
                                  .column_groups = shape.column_groups(),
                                  .token_tiles = shape.token_tiles(),
                                  .tiles_per_part = shape.tiles_per_part(),
                                  .rows = static_cast<int>(args.coefficients())};
  // The warps of a block read the same dy at about the same time: the streams of one group of columns go together.
  const int64_t each = kLaneColumns<n> / 2 * kRowSteps<n> * kInputTerms<T> * 512;
  int64_t warps = 8;
  while (warps * each > current().max_shared) warps /= 2;
  const dim3 grid(static_cast<unsigned>(ceil_div(shape.column_groups() * n, warps)),
                  static_cast<unsigned>(shape.parts()));
  launch(finish_kernel<n, Vector, T>, grid, static_cast<unsigned>(warps * 32), static_cast<size_t>(warps * each),
         finish_args);
}

}  // namespace

void mhc_pre_backward(const MhcPreBackwardArgs& args) {
  const FinishShape shape{args.tokens, args.n, args.channels};
  const FinishScratch scratch(shape, args.scratch);
  coefficient_backward(args, scratch);
  if (args.tokens > 0) {
    const bool aligned = aligned16(args.x, args.grad_input, args.grad_output, args.grad_x);
    with_streams(args.n, [&](auto n) {
      with_float_type(args.x.dtype, [&](auto* type) {
        with_vectors<n()>(args.channels % 8 == 0 && aligned, [&](auto vector) {
          finish<n(), vector(), std::remove_pointer_t<decltype(type)>>(args, shape, scratch);
        });
      });
    });
  }
  launch(fold_phi_kernel, static_cast<unsigned>(ceil_div(args.grad_phi.size, 256)), 256, 0, scratch.partials,
         args.tokens > 0 ? shape.parts() : 0, args.grad_phi.size, args.grad_phi.f32());
}

}  // namespace birkhoff::cuda
