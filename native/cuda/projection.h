// The projection q = v phi^T and s = sum v^2 of the streams on tensor cores, for mhcPre (streams read from memory) and
// the seam (streams merged on the way, while they are written). projection_tile.h tells how; here phi is packed, and
// the kernel of the streams' type started.
#pragma once
#include "cuda/projection_bfloat16.h"
#include "cuda/projection_float32.h"

namespace birkhoff::cuda {

// phi [rows, n, C] to bfloat16 terms in the order of mma's right operand: stage after stage of stage_word(), a lane's
// pairs of columns (8p + 4 step, + 1) and (+ 2, + 3) of row g of a tile.
template <int n>
__global__ void __launch_bounds__(256)
    pack_kernel(const float* phi, int rows, int64_t C, int64_t items, uint2* packed) {
  constexpr int kStreams = kSlotStreams<n>;
  const int64_t item = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (item >= items) return;
  int64_t rest = item;
  const auto take = [&](int extent) {
    const int index = static_cast<int>(rest % extent);
    rest /= extent;
    return index;
  };
  const int lane = take(32), tile = take(kStageTiles<n>), step = take(2), slot = take(kSlots),
            stage = take(kPhiStages<n>);
  const int64_t group = rest, chunk = group / kChunkSums<n>;
  const int row = (stage * kStageTiles<n> + tile) * 8 + lane / 4;
  const int stream = static_cast<int>(group % kChunkSums<n>) * kStreams + slot % kStreams;
  float v[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const int64_t c = chunk * kChunkChannels<n> + slot / kStreams * 32 + 8 * (lane % 4) + 4 * step + k;
    v[k] = row < rows && c < C ? phi[(int64_t{row} * n + stream) * C + c] : 0.0f;
  }
  uint32_t low[3], high[3];
  split_pair(v[0], v[1], low);
  split_pair(v[2], v[3], high);
#pragma unroll
  for (int term = 0; term < 3; ++term)
    packed[(group * kPhiStages<n> + stage) * kStageWords<n> + stage_word<n>(2 - term, slot, step, tile) + lane] =
        make_uint2(low[term], high[term]);
}

// Packs phi and runs the projection over all tokens. scratch: ProjectionShape::scratch_bytes, 16-byte aligned.
template <int n, bool Vector, bool Merge, class T>
ProjectionPartials project(ProjectionArgs<T> args, const float* phi, int rows, void* scratch) {
  const ProjectionShape shape{args.tokens, n, args.channels};
  uint2* packed = static_cast<uint2*>(scratch);
  args.packed = packed;
  args.partials.q = reinterpret_cast<float*>(static_cast<char*>(scratch) + shape.packed_bytes());
  args.partials.squares = args.partials.q + shape.splits() * args.tokens * shape.row_tiles() * 8;
  args.chunks = shape.chunks();
  args.chunks_per_split = shape.chunks_per_split();
  const int64_t items = shape.packed_bytes() / static_cast<int64_t>(3 * sizeof(uint2));
  launch(pack_kernel<n>, static_cast<unsigned>(ceil_div(items, 256)), 256, 0, phi, rows, args.channels, items, packed);
  const size_t stages = 2 * kStageWords<n> * sizeof(uint2);
  const size_t merge = Merge && !kMergeInRegisters<n> ? kProjectionTokens * kMergeStride<n> * sizeof(float) : 0;
  const dim3 grid(static_cast<unsigned>(ceil_div(args.tokens, kProjectionTokens)),
                  static_cast<unsigned>(shape.splits()));
  const auto kernel = [] {
    if constexpr (std::is_same_v<T, bfloat16>)
      return projection_bfloat16_kernel<n, Vector, Merge>;
    else
      return projection_float32_kernel<n, Vector, Merge>;
  }();
  launch(kernel, grid, kProjectionWarps * 32, stages + merge, args);
  return args.partials;
}

}  // namespace birkhoff::cuda
