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

// L elements, or the first `count` of them; the others are zero.
template <int L, bool Vector, class T>
__device__ __forceinline__ void load_columns(const T* p, int64_t count, float (&v)[L]) {
  if constexpr (L == 8) {
    load_some<Vector>(p, count, v);
  } else if constexpr (!Vector) {
#pragma unroll
    for (int k = 0; k < L; ++k) v[k] = k < count ? to_float(p[k]) : 0.0f;
  } else if constexpr (std::is_same_v<T, float>) {
    const float4 a = *reinterpret_cast<const float4*>(p);
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
  } else {
    const uint2 a = *reinterpret_cast<const uint2*>(p);
    v[0] = low_half(a.x), v[1] = high_half(a.x), v[2] = low_half(a.y), v[3] = high_half(a.y);
  }
}
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
  for (int64_t tile = first; tile < end; ++tile) {
    int64_t token[4];
    bool live[4];
    float x[4][L];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      token[e] = tile * 16 + 2 * p + e % 2 + 8 * (e / 2);
      live[e] = token[e] < a.tokens && c < C;
      if (live[e])
        load_columns<L, Vector>(a.x + (token[e] * n + j) * C + c, C - c, x[e]);
      else
#pragma unroll
        for (int k = 0; k < L; ++k) x[e][k] = 0.0f;
    }
    const uint4* const right = a.scratch.gradients_right + tile * kSteps * 3 * 32 + lane;
    const uint4* const left = a.scratch.gradients_left + tile * kSteps * 3 * 32 + lane;

    float product[L / 2][2][4] = {};  // [column pair][half of the tokens]: (r dm) phi
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int term = 0; term < kIn; ++term) {
        const uint4 gradient = right[(step * 3 + term) * 32];
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
      if (!live[e]) continue;
      const float* const weights = a.scratch.weights + (token[e] * n + j) * (n + 2);
      float sum[L];
#pragma unroll
      for (int k = 0; k < L; ++k) sum[k] = vfma(weights[n + 1], x[e][k], product[k / 2][e / 2][k % 2 * 2 + e % 2]);
      if (a.dy)
#pragma unroll 4  // eight streams' loads at once would spill
        for (int i = 0; i < n; ++i) {
          float dy[L];
          load_columns<L, Vector>(a.dy + (token[e] * n + i) * C + c, C - c, dy);
#pragma unroll
          for (int k = 0; k < L; ++k) sum[k] = vfma(weights[i], dy[k], sum[k]);
        }
      if (a.du) {
        float du[L];
        load_columns<L, Vector>(a.du + token[e] * C + c, C - c, du);
#pragma unroll
        for (int k = 0; k < L; ++k) sum[k] = vfma(weights[n], du[k], sum[k]);
      }
      store_columns<L, Vector>(a.dx + (token[e] * n + j) * C + c, C - c, sum);
    }

    uint32_t low[L][kOwn], high[L][kOwn];
#pragma unroll
    for (int k = 0; k < L; ++k) {
      token_pair<T>(x[0][k], x[1][k], low[k]);
      token_pair<T>(x[2][k], x[3][k], high[k]);
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int term = 0; term < 3; ++term) {
        const uint4 gradient = left[(step * 3 + term) * 32];
#pragma unroll
        for (int own = 0; own + term < 3 && own < kOwn; ++own)
#pragma unroll
          for (int k = 0; k < L; ++k) multiply(dphi[step][k], gradient, low[k][own], high[k][own]);
      }
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
#pragma unroll
        for (int k = 0; k < L; ++k)
          if (column + k < C) partial[(int64_t{row} * n + j) * C + column + k] = dphi[step][k][2 * half + side];
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
