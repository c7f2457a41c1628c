// c = op(a) op(b) of bfloat16 operands on tensor cores: tiles of c per block, slices of k through shared memory by
// cp.async, three in flight. Every element sums its products in the same order whatever the extents and the tile are:
// 128 of them at a time from zero, since tensor cores cut off what they add to a long sum, and these sums in float32.
#include "cuda/gemm_tile.h"
#include "cuda/ptx.h"

namespace birkhoff::cuda {
namespace {

constexpr int kSlice = 32;
constexpr int kStages = 3;
constexpr int kJoinedSlices = 128 / kSlice;
constexpr int kPad = 8;  // 16 bytes: the eight rows that ldmatrix reads at a time lie in different banks

// Which memory an operand's tile has: `Outer` rows of `Inner` neighbouring elements, as in global memory.
template <bool DepthInner, int Tile>
struct Layout {
  static constexpr int outer = DepthInner ? Tile : kSlice, inner = DepthInner ? kSlice : Tile;
  static constexpr int pitch = inner + kPad, elements = outer * pitch;
};

// One operand of one matrix: element (outer, inner) at data[outer * inner_end + inner].
struct Operand {
  const bfloat16* data;
  int64_t outer_end, inner_end;
  bool vector;  // rows begin at 16-byte boundaries
};

template <class L, int Threads>
__device__ __forceinline__ void fetch(bfloat16* tile, const Operand& from, int64_t outer0, int64_t inner0) {
  constexpr int per_row = L::inner / 8;
#pragma unroll
  for (int i = 0; i < L::outer * per_row / Threads; ++i) {
    const int chunk = static_cast<int>(threadIdx.x) + i * Threads;
    const int64_t outer = outer0 + chunk / per_row, inner = inner0 + chunk % per_row * 8;
    bfloat16* to = tile + chunk / per_row * L::pitch + chunk % per_row * 8;
    const bfloat16* source = from.data + outer * from.inner_end + inner;
    if (from.vector && outer < from.outer_end && inner < from.inner_end) {
      ptx::copy_async16(to, source);
    } else {
      uint32_t pairs[4];
#pragma unroll
      for (int p = 0; p < 4; ++p) {
        pairs[p] = 0;
        if (outer < from.outer_end && inner + 2 * p < from.inner_end) pairs[p] = source[2 * p].bits;
        if (outer < from.outer_end && inner + 2 * p + 1 < from.inner_end)
          pairs[p] |= uint32_t{source[2 * p + 1].bits} << 16;
      }
      *reinterpret_cast<uint4*>(to) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    }
  }
}

template <int Tile>
constexpr int kGemmBfloat16Threads = 2 * Tile;  // warps [2][Tile / 32], each [Tile / 2, 32] of c

template <bool TransposeA, bool TransposeB, int Tile>
struct Shared {
  using A = Layout<!TransposeA, Tile>;
  using B = Layout<TransposeB, Tile>;
  static constexpr int stage = A::elements + B::elements;
  static constexpr size_t bytes = sizeof(bfloat16) * kStages * stage;
};

// Adds the products of one slice.
template <bool TransposeA, bool TransposeB, int Tile, int Rows, int Columns>
__device__ __forceinline__ void multiply(float (&sums)[Rows][Columns][4], const bfloat16* a, const bfloat16* b,
                                         int row0, int column0) {
  using S = Shared<TransposeA, TransposeB, Tile>;
  const int lane = threadIdx.x % 32, matrix = lane / 8, line = lane % 8;
  // The quarter of a 16 x 16 block that this lane's matrix is: as the fragments' registers follow each other.
  const int first = matrix % 2 * 8, second = matrix / 2 * 8;
#pragma unroll
  for (int depth = 0; depth < kSlice; depth += 16) {
    uint32_t left[Rows][4], right[Columns / 2][4];
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      const int row = row0 + 16 * i;
      if constexpr (TransposeA)
        ptx::load_matrices<true>(left[i], a + (depth + second + line) * S::A::pitch + row + first);
      else
        ptx::load_matrices<false>(left[i], a + (row + first + line) * S::A::pitch + depth + second);
    }
#pragma unroll
    for (int j = 0; j < Columns / 2; ++j) {
      const int column = column0 + 16 * j;
      if constexpr (TransposeB)
        ptx::load_matrices<false>(right[j], b + (column + second + line) * S::B::pitch + depth + first);
      else
        ptx::load_matrices<true>(right[j], b + (depth + first + line) * S::B::pitch + column + second);
    }
#pragma unroll
    for (int i = 0; i < Rows; ++i)
#pragma unroll
      for (int j = 0; j < Columns; ++j) {
        const uint32_t pair[2] = {right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]};
        ptx::mma_bf16(sums[i][j], left[i], pair);
      }
  }
}

template <int Rows, int Columns>
__device__ __forceinline__ void join(float (&sums)[Rows][Columns][4], float (&part)[Rows][Columns][4]) {
#pragma unroll
  for (int i = 0; i < Rows; ++i)
#pragma unroll
    for (int j = 0; j < Columns; ++j)
#pragma unroll
      for (int r = 0; r < 4; ++r) sums[i][j][r] += part[i][j][r], part[i][j][r] = 0.0f;
}

template <bool TransposeA, bool TransposeB, int Tile>
__global__ void __launch_bounds__(kGemmBfloat16Threads<Tile>)
    gemm_bfloat16_kernel(const Gemm g, bool vector_a, bool vector_b) {
  using S = Shared<TransposeA, TransposeB, Tile>;
  constexpr int rows = Tile / 32, columns = 4;
  BIRKHOFF_DYNAMIC_SHARED(bfloat16, shared);
  int64_t row0, column0;
  tile_origin(g, Tile, row0, column0);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_row = warp % 2 * (Tile / 2), warp_column = warp / 2 * 32;
  const int64_t steps = (g.k + kSlice - 1) / kSlice;
  for (int64_t matrix = blockIdx.y; matrix < g.batch; matrix += gridDim.y) {
    const Operand a{static_cast<const bfloat16*>(g.a) + matrix * g.a_stride, TransposeA ? g.k : g.m,
                    TransposeA ? g.m : g.k, vector_a};
    const Operand b{static_cast<const bfloat16*>(g.b) + matrix * g.b_stride, TransposeB ? g.n : g.k,
                    TransposeB ? g.k : g.n, vector_b};
    const auto fetch_slice = [&](int64_t step) {
      if (step < steps) {
        bfloat16* stage = shared + step % kStages * S::stage;
        const int64_t depth = step * kSlice;
        fetch<typename S::A, kGemmBfloat16Threads<Tile>>(stage, a, TransposeA ? depth : row0,
                                                         TransposeA ? row0 : depth);
        fetch<typename S::B, kGemmBfloat16Threads<Tile>>(stage + S::A::elements, b, TransposeB ? column0 : depth,
                                                         TransposeB ? depth : column0);
      }
      ptx::copy_async_commit();
    };
    float sums[rows][columns][4] = {}, part[rows][columns][4] = {};
    for (int s = 0; s < kStages - 1; ++s) fetch_slice(s);
    for (int64_t step = 0; step < steps; ++step) {
      ptx::copy_async_wait<kStages - 2>();
      __syncthreads();  // the slice is there for all, and all are done with the one before it
      fetch_slice(step + kStages - 1);
      const bfloat16* stage = shared + step % kStages * S::stage;
      multiply<TransposeA, TransposeB, Tile>(part, stage, stage + S::A::elements, warp_row, warp_column);
      if (step % kJoinedSlices == kJoinedSlices - 1 || step + 1 == steps) join(sums, part);
    }
    __syncthreads();  // before the next matrix overwrites what a slower warp still reads
#pragma unroll
    for (int i = 0; i < rows; ++i)
#pragma unroll
      for (int j = 0; j < columns; ++j) {
        const int64_t row = row0 + warp_row + 16 * i + lane / 4, column = column0 + warp_column + 8 * j + lane % 4 * 2;
        store_pair(g, matrix * g.c_stride, row, column, sums[i][j][0], sums[i][j][1]);
        store_pair(g, matrix * g.c_stride, row + 8, column, sums[i][j][2], sums[i][j][3]);
      }
  }
}

}  // namespace

void bfloat16_gemm(const Gemm& g) {
  const bool vector_a = vector_rows<8>(g.a, g.transpose_a ? g.m : g.k, g.a_stride);
  const bool vector_b = vector_rows<8>(g.b, g.transpose_b ? g.k : g.n, g.b_stride);
  with_bool(g.transpose_a, [&](auto transpose_a) {
    with_bool(g.transpose_b, [&](auto transpose_b) {
      with_bool(wants_large_tiles(g), [&](auto large) {
        constexpr int tile = large() ? 128 : 64;
        launch(gemm_bfloat16_kernel<transpose_a(), transpose_b(), tile>, tile_grid(g, tile), kGemmBfloat16Threads<tile>,
               Shared<transpose_a(), transpose_b(), tile>::bytes, g, vector_a, vector_b);
      });
    });
  });
}

}  // namespace birkhoff::cuda
