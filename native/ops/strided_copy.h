// A copy between two strided layouts of one shape: transposes, slices, concatenation, and their gradients.
//
//   target[target_offset + sum_a i_a target_strides_a] = source[source_offset + sum_a i_a source_strides_a],  i in
//   shape
//
// Offsets and strides count elements, are not negative, and the target's places must be distinct.
#pragma once
#include "core/checks.h"
#include "core/host_device.h"
#include "core/int_list.h"

namespace birkhoff {

struct StridedCopyArgs {
  static constexpr const char* kName = "stridedCopy";
  View source, target;
  IntList shape, source_strides;
  int64_t source_offset;
  IntList target_strides;
  int64_t target_offset;

  template <class F>
  void fields(F&& field) {
    field("source", source), field("target", target), field("shape", shape), field("sourceStrides", source_strides);
    field("sourceOffset", source_offset), field("targetStrides", target_strides), field("targetOffset", target_offset);
  }
  void check() const {
    require_dtype(kName, "target", target, source.dtype);
    if (source_strides.size != shape.size || target_strides.size != shape.size)
      throw Error(kShapeError, "stridedCopy: strides and shape differ in length");
    int64_t total = 1;
    for (int64_t axis = 0; axis < shape.size; ++axis) total = checked_product({total, shape.values[axis]});
    if (total == 0) return;
    require_inside("source", source, source_strides, source_offset);
    require_inside("target", target, target_strides, target_offset);
  }
  bool empty() const {
    for (int64_t axis = 0; axis < shape.size; ++axis)
      if (shape.values[axis] == 0) return true;
    return false;
  }

 private:
  void require_inside(const char* argument, const View& view, const IntList& strides, int64_t offset) const {
    require_range(kName, "offset", offset, 0, kMaxSize);
    int64_t last = offset;
    for (int64_t axis = 0; axis < shape.size; ++axis)
      last = checked_product({1, last + checked_product({shape.values[axis] - 1, strides.values[axis]})});
    if (last >= view.size) throw Error(kShapeError, std::string("stridedCopy: reaches past the end of ") + argument);
  }
};

// One block as it is, by a kernel also where a driver has a copy of its own: benchmarks take the faster of the two for
// their yardstick.
struct BlockCopyArgs {
  static constexpr const char* kName = "blockCopy";
  View source, target;

  template <class F>
  void fields(F&& field) {
    field("source", source), field("target", target);
  }
  void check() const {
    require_dtype(kName, "target", target, source.dtype), require_size(kName, "target", target, {source.size});
    for (const View* view : {&source, &target})
      if (reinterpret_cast<uintptr_t>(view->data) % 16 != 0 || bytes() % 16 != 0)
        throw Error(kShapeError, std::string(kName) + ": " + (view == &source ? "source" : "target") +
                                     " does not begin and end on 16 bytes");
  }
  int64_t bytes() const { return source.size * dtype_bytes(source.dtype); }
};

// ---- what every backend makes of it ----

struct CopyAxis {
  int64_t extent, from, to;  // extent, source stride, target stride
};

struct CopyLayout {
  int axes = 0;
  CopyAxis axis[kMaxAxes];
};

// Without axes of extent 1, and with neighbours that are one axis in both layouts merged.
MHC_HD CopyLayout simplified(const StridedCopyArgs& args) {
  CopyLayout out;
  for (int64_t i = 0; i < args.shape.size; ++i) {
    const CopyAxis next = {args.shape.values[i], args.source_strides.values[i], args.target_strides.values[i]};
    if (next.extent == 1) continue;
    if (out.axes > 0) {
      CopyAxis& last = out.axis[out.axes - 1];
      if (last.from == next.from * next.extent && last.to == next.to * next.extent) {
        last = {last.extent * next.extent, next.from, next.to};
        continue;
      }
    }
    out.axis[out.axes++] = next;
  }
  return out;
}

// Offsets of the index-th combination of the first `count` axes, last one fastest.
MHC_HD void locate(const CopyLayout& layout, int count, int64_t index, int64_t& from, int64_t& to) {
  from = to = 0;
  for (int a = count - 1; a >= 0; --a) {
    const CopyAxis& axis = layout.axis[a];
    const int64_t i = index % axis.extent;
    index /= axis.extent;
    from += i * axis.from;
    to += i * axis.to;
  }
}

MHC_HD int64_t combinations(const CopyLayout& layout, int count) {
  int64_t total = 1;
  for (int a = 0; a < count; ++a) total *= layout.axis[a].extent;
  return total;
}

enum class CopyKind {
  kRows,      // the last axis is contiguous in both
  kTiles,     // of the last two axes one is contiguous in the source, the other in the target
  kElements,  // neither
};

// Puts the axes in the order that its kind names; there is at least one then.
MHC_HD CopyKind arrange(CopyLayout& layout) {
  if (layout.axes == 0) layout.axis[layout.axes++] = {1, 1, 1};
  const CopyAxis last = layout.axis[layout.axes - 1];
  if (last.from == 1 && last.to == 1) return CopyKind::kRows;
  for (int a = 0; a < layout.axes - 1; ++a) {
    const CopyAxis axis = layout.axis[a];
    if (!((axis.from == 1 && last.to == 1) || (axis.to == 1 && last.from == 1))) continue;
    for (int b = a; b < layout.axes - 2; ++b) layout.axis[b] = layout.axis[b + 1];
    layout.axis[layout.axes - 2] = axis;
    return CopyKind::kTiles;
  }
  return CopyKind::kElements;
}

}  // namespace birkhoff
