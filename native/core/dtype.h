// Element types; codes are shared with lib/dtype.ts.
#pragma once
#include <cstdint>
#include <cstring>

#include "core/host_device.h"
#if defined(__CUDACC__) && !defined(BIRKHOFF_CUDA_EMULATED)
#include "cuda/ptx.h"
#endif

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

// What the GPU's conversion makes of every NaN, so that all devices give the same bits.
inline constexpr uint16_t kBFloat16NaN = 0x7fff;

// Round to nearest even.
MHC_HD bfloat16 to_bfloat16(float f) {
#if defined(__CUDA_ARCH__) && !defined(BIRKHOFF_CUDA_EMULATED)
  return {cuda::ptx::to_bf16(f)};
#else
  uint32_t u;
  memcpy(&u, &f, 4);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {kBFloat16NaN};
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
#endif
}

MHC_HD void from_float(float v, float& out) {
  out = v;
}
MHC_HD void from_float(float v, bfloat16& out) {
  out = to_bfloat16(v);
}

}  // namespace birkhoff
