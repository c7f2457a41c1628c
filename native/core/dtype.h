// Element types; codes are shared with lib/dtype.ts.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/host_device.h"

namespace birkhoff {

enum class DType : int32_t { kFloat32 = 0, kBFloat16 = 1, kInt32 = 2 };

struct bfloat16 {
  uint16_t bits;
};

MHC_HD int64_t dtype_bytes(DType dtype) {
  return dtype == DType::kBFloat16 ? 2 : 4;
}

MHC_HD float to_float(float v) {
  return v;
}
MHC_HD float to_float(bfloat16 v) {
  const uint32_t u = static_cast<uint32_t>(v.bits) << 16;
  float f;
  memcpy(&f, &u, 4);
  return f;
}

// Round to nearest even; NaN stays a quiet NaN.
MHC_HD bfloat16 to_bfloat16(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

MHC_HD void from_float(float v, float& out) {
  out = v;
}
MHC_HD void from_float(float v, bfloat16& out) {
  out = to_bfloat16(v);
}

}  // namespace birkhoff
