// Strided copies on CPU: rows by memcpy, 2-D transposes by tiles, the rest element by element; see ops/strided_copy.h.
#include "cpu/kernels.h"
#include "cpu/simd.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int64_t kBytesPerTask = 1 << 16;
constexpr int64_t kTile = 32;

template <class T>
void copy_rows(const CopyLayout& layout, const T* source, T* target) {
  const int outer = layout.axes - 1;
  const int64_t row = layout.axis[outer].extent, rows = combinations(layout, outer);
  const int64_t piece = kBytesPerTask / static_cast<int64_t>(sizeof(T));
  const int64_t pieces = ceil_div(row, piece);  // of a long row
  const int64_t per_task = max64(1, piece / row);
  parallel(ceil_div(rows, per_task) * pieces, [&](int64_t task) {
    const int64_t begin = task % pieces * piece, size = min64(piece, row - begin);
    const int64_t first = task / pieces * per_task;
    for (int64_t r = first; r < min64(rows, first + per_task); ++r) {
      int64_t from, to;
      locate(layout, outer, r, from, to);
      memcpy(target + to + begin, source + from + begin, static_cast<size_t>(size) * sizeof(T));
    }
  });
}

// One tile through a buffer: read along the source's lines, written along the target's, so no cache line is touched 32
// times from far away (extents that are powers of two would map them all to one set).
template <class T>
BIRKHOFF_INLINE void copy_tile(const T* source, T* target, const CopyAxis& rows, const CopyAxis& columns) {
  const bool source_by_rows = columns.from == 1;
  const CopyAxis &outer = source_by_rows ? rows : columns, &inner = source_by_rows ? columns : rows;
  // In the source `inner` is contiguous, in the target `outer`.
  T buffer[kTile][kTile];
  if (outer.extent == kTile && inner.extent == kTile) {
    for (int64_t o = 0; o < kTile; ++o)
      for (int64_t i = 0; i < kTile; ++i) buffer[o][i] = source[o * outer.from + i];
    for (int64_t i = 0; i < kTile; ++i) {
      T line[kTile];
      for (int64_t o = 0; o < kTile; ++o) line[o] = buffer[o][i];
      memcpy(target + i * inner.to, line, sizeof line);
    }
    return;
  }
  for (int64_t o = 0; o < outer.extent; ++o)
    for (int64_t i = 0; i < inner.extent; ++i)
      target[o * outer.to + i * inner.to] = source[o * outer.from + i * inner.from];
}

// The last two axes: one has stride 1 in the source, the other in the target.
template <class T>
void copy_tiles(const CopyLayout& layout, const T* source, T* target) {
  const int outer = layout.axes - 2;
  const CopyAxis rows = layout.axis[outer], columns = layout.axis[outer + 1];
  const int64_t down = ceil_div(rows.extent, kTile), across = ceil_div(columns.extent, kTile);
  parallel(combinations(layout, outer) * down, [&](int64_t task) {
    int64_t from, to;
    locate(layout, outer, task / down, from, to);
    const int64_t top = task % down * kTile, bottom = min64(rows.extent, top + kTile);
    for (int64_t tile = 0; tile < across; ++tile) {
      const int64_t left = tile * kTile, right = min64(columns.extent, left + kTile);
      copy_tile(source + from + top * rows.from + left * columns.from, target + to + top * rows.to + left * columns.to,
                {bottom - top, rows.from, rows.to}, {right - left, columns.from, columns.to});
    }
  });
}

template <class T>
void copy_elements(const CopyLayout& layout, const T* source, T* target) {
  const int outer = layout.axes - 1;
  const CopyAxis last = layout.axis[outer];
  const int64_t rows = combinations(layout, outer), per_task = max64(1, 16384 / last.extent);
  parallel(ceil_div(rows, per_task), [&](int64_t task) {
    for (int64_t r = task * per_task; r < min64(rows, (task + 1) * per_task); ++r) {
      int64_t from, to;
      locate(layout, outer, r, from, to);
      for (int64_t i = 0; i < last.extent; ++i) target[to + i * last.to] = source[from + i * last.from];
    }
  });
}

template <class T>
void copy_any(CopyLayout layout, const T* source, T* target) {
  const CopyKind kind = arrange(layout);
  if (kind == CopyKind::kRows) return copy_rows(layout, source, target);
  if (kind == CopyKind::kTiles) return copy_tiles(layout, source, target);
  copy_elements(layout, source, target);
}

}  // namespace

void strided_copy(const StridedCopyArgs& args) {
  if (args.empty()) return;
  const CopyLayout layout = simplified(args);
  if (args.source.dtype == DType::kBFloat16)
    copy_any(layout, args.source.as<uint16_t>() + args.source_offset, args.target.as<uint16_t>() + args.target_offset);
  else
    copy_any(layout, args.source.as<uint32_t>() + args.source_offset, args.target.as<uint32_t>() + args.target_offset);
}

void block_copy(const BlockCopyArgs& args) {
  if (args.source.size == 0) return;
  CopyLayout whole;
  whole.axis[whole.axes++] = {args.bytes(), 1, 1};
  copy_rows(whole, static_cast<const char*>(args.source.data), static_cast<char*>(args.target.data));
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
