// mhcPre backward on CUDA, second half ("finish"): dx and dphi in one read of x, dy and du, on tensor cores.
//
//   dx_j = sum_i res_ij dy_i + pre_j du + [(r dm) phi]_j - (r^2 / K) <dm, m> x_j, in float32, rounded once
//   dphi = sum_t (r dm)^T v
//
// A warp owns some columns of one stream and walks through a part of the tokens: finish_warp.h. dphi's sums of the
// parts are folded in order.
#include "cuda/finish_warp.h"

namespace birkhoff::cuda {
namespace {

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

constexpr int kFinishWarps = 4;

template <int n, bool Vector, class T, Given given>
__global__ void __launch_bounds__(kFinishWarps * 32, 2) finish_kernel(const FinishArgs<T> a) {
  using Warp = FinishWarp<n, Vector, T, given>;
  BIRKHOFF_DYNAMIC_SHARED(uint4, shared);  // each warp its own part
  const int warp = threadIdx.x / 32;
  const int64_t job = int64_t{blockIdx.x} * (blockDim.x / 32) + warp;
  if (job >= a.column_groups * n) return;
  Warp own(a, job, shared + warp * (Warp::kSharedBytes / 16));
  const int64_t first = int64_t{blockIdx.y} * a.tiles_per_part;
  const int64_t end = first + a.tiles_per_part < a.token_tiles ? first + a.tiles_per_part : a.token_tiles;
  if (first < end) own.load_tile(first);
  own.clear();
  for (int64_t tile = first; tile < end; ++tile) {
    const int64_t next = tile + 1 < end ? tile + 1 : tile;
    float product[Warp::kPairs][2][4];
    own.multiply_phi(tile, product);
#pragma unroll
    for (int e = 0; e < 4; ++e) own.finish_token(tile, next, e, product);
    own.multiply_x(tile, next);
    if ((tile - first) % kJoinedTiles == kJoinedTiles - 1 || tile + 1 == end) own.join();
  }
  own.store_dphi(a.scratch.partials + int64_t{blockIdx.y} * a.rows * n * a.channels);
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
  // The other combinations are rare, and so are rows that are not whole vectors: one kernel, which asks, serves both.
  const auto start = [&]<Given given>() {
    const int64_t each = FinishWarp<n, Vector, T, given>::kSharedBytes;
    // The warps of a block read the same dy at about the same time: the streams of one group of columns go together.
    int64_t warps = kFinishWarps;
    while (warps * each > current().max_shared) warps /= 2;
    const dim3 grid(static_cast<unsigned>(ceil_div(shape.column_groups() * n, warps)),
                    static_cast<unsigned>(shape.parts()));
    launch(finish_kernel<n, Vector, T, given>, grid, static_cast<unsigned>(warps * 32),
           static_cast<size_t>(warps * each), finish_args);
  };
  if constexpr (Vector) {
    if (finish_args.dy && finish_args.du) return start.template operator()<Given::kBoth>();
    if (finish_args.du) return start.template operator()<Given::kInput>();
    finish<n, false, T>(args, shape, scratch);
  } else {
    start.template operator()<Given::kAny>();
  }
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
