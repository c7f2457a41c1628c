// What a kernel sees of a tensor: where it starts, how many elements, of which type. Shapes are separate, explicit
// arguments.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace birkhoff {

struct View {
  void* data = nullptr;
  int64_t size = 0;
  DType dtype = DType::kFloat32;

  explicit operator bool() const { return data != nullptr; }
  float* f32() const { return static_cast<float*>(data); }
  bfloat16* bf16() const { return static_cast<bfloat16*>(data); }
  int32_t* i32() const { return static_cast<int32_t*>(data); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

// A view that may be absent (null from JavaScript).
struct OptionalView : View {};

}  // namespace birkhoff
