// Strided copies on CUDA: one block by the driver, rows 16 bytes at a time, transposes by tiles through shared memory,
// the rest element by element; see ops/strided_copy.h.
#include "cuda/launch.h"
#include "cuda/ptx.h"
#include "ops/strided_copy.h"

namespace birkhoff::cuda {
namespace {

constexpr int kStridedCopyThreads = 256;
constexpr int kTile = 32;

// Four pieces of 16 bytes a thread, all read before the first is written.
__global__ void __launch_bounds__(kStridedCopyThreads)
    block_copy_kernel(const uint4* source, uint4* target, int64_t pieces) {
  const int64_t step = int64_t{4} * kStridedCopyThreads * gridDim.x;
  for (int64_t at = int64_t{4} * kStridedCopyThreads * blockIdx.x + threadIdx.x; at < pieces; at += step) {
    uint4 words[4] = {};
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (at + k * kStridedCopyThreads < pieces) words[k] = source[at + k * kStridedCopyThreads];
#pragma unroll
    for (int k = 0; k < 4; ++k)
      ptx::store16_if(at + k * kStridedCopyThreads < pieces, target + at + k * kStridedCopyThreads, words[k].x,
                      words[k].y, words[k].z, words[k].w);
  }
}

// Word: a piece of the innermost axis that both sides are aligned to, one element at least; strides count words.
template <class Word>
__global__ void __launch_bounds__(kStridedCopyThreads)
    copy_rows_kernel(const CopyLayout layout, const Word* source, Word* target, int64_t total) {
  const int outer = layout.axes - 1;
  const int64_t row = layout.axis[outer].extent, step = int64_t{kStridedCopyThreads} * gridDim.x;
#pragma unroll 4
  for (int64_t i = int64_t{blockIdx.x} * kStridedCopyThreads + threadIdx.x; i < total; i += step) {
    int64_t from, to;
    locate(layout, outer, i / row, from, to);
    target[to + i % row] = source[from + i % row];
  }
}

template <class T>
__global__ void __launch_bounds__(kStridedCopyThreads)
    elements_kernel(const CopyLayout layout, const T* source, T* target, int64_t total) {
  const int64_t step = int64_t{kStridedCopyThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kStridedCopyThreads + threadIdx.x; i < total; i += step) {
    int64_t from, to;
    locate(layout, layout.axes, i, from, to);
    target[to] = source[from];
  }
}

// Read along the source's lines, written along the target's. Of the last two axes `along` is contiguous in the source
// and `across` in the target.
template <class T>
__global__ void __launch_bounds__(kStridedCopyThreads)
    tiles_kernel(const CopyLayout layout, const T* source, T* target, int64_t total) {
  BIRKHOFF_SHARED(T, tile, [kTile][kTile + 4 / sizeof(T)]);
  constexpr int kStep = kStridedCopyThreads / kTile;
  const int outer = layout.axes - 2, x = threadIdx.x % kTile, y = threadIdx.x / kTile;
  const bool by_columns = layout.axis[outer + 1].from == 1;
  const CopyAxis along = layout.axis[by_columns ? outer + 1 : outer];
  const CopyAxis across = layout.axis[by_columns ? outer : outer + 1];
  const int64_t tiles_along = (along.extent + kTile - 1) / kTile, tiles_across = (across.extent + kTile - 1) / kTile;
  for (int64_t i = blockIdx.x; i < total; i += gridDim.x) {
    const int64_t left = i % tiles_along * kTile, top = i / tiles_along % tiles_across * kTile;
    int64_t from, to;
    locate(layout, outer, i / (tiles_along * tiles_across), from, to);
    const T* read = source + from + top * across.from + left;
    T* write = target + to + left * along.to + top;
#pragma unroll
    for (int k = y; k < kTile; k += kStep)
      if (left + x < along.extent && top + k < across.extent) tile[k][x] = read[k * across.from + x];
    __syncthreads();
#pragma unroll
    for (int k = y; k < kTile; k += kStep)
      if (top + x < across.extent && left + k < along.extent) write[k * along.to + x] = tile[x][k];
    __syncthreads();
  }
}

// The same copy in words of `count` elements, where rows, strides and starts are whole words.
bool in_words(CopyLayout& layout, int64_t count, const void* source, const void* target) {
  if (!aligned16(source) || !aligned16(target) || layout.axis[layout.axes - 1].extent % count != 0) return false;
  for (int a = 0; a < layout.axes - 1; ++a)
    if (layout.axis[a].from % count != 0 || layout.axis[a].to % count != 0) return false;
  layout.axis[layout.axes - 1].extent /= count;
  for (int a = 0; a < layout.axes - 1; ++a) layout.axis[a].from /= count, layout.axis[a].to /= count;
  return true;
}

template <class Word>
void copy_rows(const CopyLayout& layout, const void* source, void* target) {
  const int64_t total = combinations(layout, layout.axes);
  launch(copy_rows_kernel<Word>, grid_for(total, kStridedCopyThreads), kStridedCopyThreads, 0, layout,
         static_cast<const Word*>(source), static_cast<Word*>(target), total);
}

template <class T>
void copy(CopyLayout layout, const T* source, T* target) {
  const CopyKind kind = arrange(layout);
  if (kind == CopyKind::kRows && layout.axes == 1) {
    const size_t bytes = static_cast<size_t>(layout.axis[0].extent) * sizeof(T);
    return current().check(cudaMemcpyAsync(target, source, bytes, cudaMemcpyDeviceToDevice, current().compute),
                           "cudaMemcpyAsync");
  }
  if (kind == CopyKind::kRows) {
    if (in_words(layout, 16 / int64_t{sizeof(T)}, source, target)) return copy_rows<uint4>(layout, source, target);
    return copy_rows<T>(layout, source, target);
  }
  const int64_t total = combinations(layout, layout.axes);
  if (kind == CopyKind::kElements) {
    launch(elements_kernel<T>, grid_for(total, kStridedCopyThreads), kStridedCopyThreads, 0, layout, source, target,
           total);
    return;
  }
  const CopyAxis *rows = &layout.axis[layout.axes - 2], *columns = rows + 1;
  const int64_t tiles =
      combinations(layout, layout.axes - 2) * ceil_div(rows->extent, kTile) * ceil_div(columns->extent, kTile);
  launch(tiles_kernel<T>, grid_for(tiles, 1), kStridedCopyThreads, 0, layout, source, target, tiles);
}

}  // namespace

void strided_copy(const StridedCopyArgs& args) {
  if (args.empty()) return;
  const CopyLayout layout = simplified(args);
  if (args.source.dtype == DType::kBFloat16)
    copy(layout, args.source.as<const uint16_t>() + args.source_offset,
         args.target.as<uint16_t>() + args.target_offset);
  else
    copy(layout, args.source.as<const uint32_t>() + args.source_offset,
         args.target.as<uint32_t>() + args.target_offset);
}

void block_copy(const BlockCopyArgs& args) {
  const int64_t pieces = args.bytes() / 16;
  if (pieces > 0)
    launch(block_copy_kernel, grid_for(pieces, 4 * kStridedCopyThreads), kStridedCopyThreads, 0,
           args.source.as<const uint4>(), args.target.as<uint4>(), pieces);
}

}  // namespace birkhoff::cuda
