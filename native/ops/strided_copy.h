// A copy between two strided layouts of one shape: transposes, slices, concatenation, and their gradients.
//
//   target[target_offset + sum_a i_a target_strides_a] = source[source_offset + sum_a i_a source_strides_a],  i in
//   shape
//
// Offsets and strides count elements, are not negative, and the target's places must be distinct.
#pragma once
#include "core/checks.h"
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

 private:
  void require_inside(const char* argument, const View& view, const IntList& strides, int64_t offset) const {
    require_range(kName, "offset", offset, 0, kMaxSize);
    int64_t last = offset;
    for (int64_t axis = 0; axis < shape.size; ++axis)
      last = checked_product({1, last + checked_product({shape.values[axis] - 1, strides.values[axis]})});
    if (last >= view.size) throw Error(kShapeError, std::string("stridedCopy: reaches past the end of ") + argument);
  }
};

}  // namespace birkhoff
