// Checks of an op's arguments for memory safety; TypeScript has already said the same in words meant for people.
#pragma once
#include <initializer_list>
#include <string>

#include "core/checked.h"
#include "core/view.h"

namespace birkhoff {

inline void require_size(const char* op, const char* argument, const View& view,
                         std::initializer_list<int64_t> extents) {
  const int64_t want = checked_product(extents);
  if (view.size != want)
    throw Error(kShapeError, std::string(op) + ": " + argument + " has " + std::to_string(view.size) +
                                 " elements, want " + std::to_string(want));
}

inline void require_optional_size(const char* op, const char* argument, const View& view,
                                  std::initializer_list<int64_t> extents) {
  if (view) require_size(op, argument, view, extents);
}

inline void require_float(const char* op, const char* argument, const View& view) {
  if (view && view.dtype == DType::kInt32)
    throw Error(kDTypeError, std::string(op) + ": " + argument + " is int32, want float32 or bfloat16");
}

inline void require_dtype(const char* op, const char* argument, const View& view, DType dtype) {
  if (view && view.dtype != dtype) throw Error(kDTypeError, std::string(op) + ": " + argument + " has the wrong dtype");
}

inline void require_range(const char* op, const char* argument, int64_t value, int64_t min, int64_t max) {
  if (value < min || value > max)
    throw Error(kRangeError, std::string(op) + ": " + argument + " is " + std::to_string(value) + ", want " +
                                 std::to_string(min) + " to " + std::to_string(max));
}

inline void require_streams(const char* op, int64_t n) {
  if (n != 1 && n != 2 && n != 4 && n != 8)
    throw Error(kRangeError, std::string(op) + ": n is " + std::to_string(n) + ", want 1, 2, 4 or 8");
}

}  // namespace birkhoff
