// Every instruction that C++ has no word for, each with its twin for the executor.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace birkhoff::cuda::ptx {
#ifdef BIRKHOFF_CUDA_EMULATED

inline void copy_async16(void* shared, const void* global, CUDA_EMU_SITE) {
  cuda_emu::cp_async_push(shared, global, 16, 16, cuda_emu_site);
}
inline void store16_if(bool wanted, void* target, uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  if (wanted) *static_cast<uint4*>(target) = make_uint4(x, y, z, w);
}
inline void store16(void* target, uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  *static_cast<uint4*>(target) = make_uint4(x, y, z, w);
}
inline void store8(void* target, uint32_t x, uint32_t y) {
  *static_cast<uint2*>(target) = make_uint2(x, y);
}
inline void copy_async_commit() {
  cuda_emu::cp_async_commit();
}
template <int Pending>
inline void copy_async_wait(CUDA_EMU_SITE) {
  cuda_emu::cp_async_wait(Pending, cuda_emu_site);
}
inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], CUDA_EMU_SITE) {
  cuda_emu::mma_m16n8k16_bf16(d, a, b, d, cuda_emu_site);
}
template <bool Transposed>
inline void load_matrices(uint32_t (&d)[4], const void* row, CUDA_EMU_SITE) {
  const uint4 loaded = *static_cast<const uint4*>(row);
  const uint32_t words[4] = {loaded.x, loaded.y, loaded.z, loaded.w};
  cuda_emu::ldmatrix(d, words, 4, Transposed, cuda_emu_site);
}

#else

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
// 16 bytes from global to shared memory, past the registers; done when copy_async_wait says so.
__device__ __forceinline__ void copy_async16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)), "l"(global) : "memory");
}
// 16 or 8 bytes to global memory in one instruction: the compiler splits the assignment of a uint4 or float4 into four
// in places, and each of the four touches every sector of the line.
__device__ __forceinline__ void store16_if(bool wanted, void* target, uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  asm volatile("{\n.reg .pred p;\nsetp.ne.s32 p, %5, 0;\n@p st.global.v4.b32 [%0], {%1,%2,%3,%4};\n}" ::"l"(target),
               "r"(x), "r"(y), "r"(z), "r"(w), "r"(static_cast<int>(wanted))
               : "memory");
}
__device__ __forceinline__ void store16(void* target, uint32_t x, uint32_t y, uint32_t z, uint32_t w) {
  asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(target), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}
__device__ __forceinline__ void store8(void* target, uint32_t x, uint32_t y) {
  asm volatile("st.global.v2.b32 [%0], {%1,%2};" ::"l"(target), "r"(x), "r"(y) : "memory");
}
__device__ __forceinline__ void copy_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most Pending of the calling thread's groups are on their way.
template <int Pending>
__device__ __forceinline__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}
// Round to nearest even, subnormals kept; NaN becomes 0x7fff.
__device__ __forceinline__ uint16_t to_bf16(float v) {
  uint16_t bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
  return bits;
}
__device__ __forceinline__ uint32_t to_bf16_pair(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
// Within 1 ulp.
__device__ __forceinline__ float approximate_reciprocal(float v) {
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(v));
  return result;
}
// d += a b on tensor cores: a [16, 16], b [16, 8] bfloat16, d [16, 8] float32. With g = lane / 4, q = lane % 4:
//   a0 (g, 2q..), a1 (g + 8, 2q..), a2 (g, 2q + 8..), a3 (g + 8, 2q + 8..);  b0 (2q.., g), b1 (2q + 8.., g)
//   d0, d1 (g, 2q..), d2, d3 (g + 8, 2q..)
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Four 8 x 8 matrices of 16-bit elements from shared memory. Lane 8 j + r gives the address of row r of matrix j, and
// with g and q as above receives of matrix j the pair (g, 2q..), or where transposed (2q.., g).
template <bool Transposed>
__device__ __forceinline__ void load_matrices(uint32_t (&d)[4], const void* row) {
  if constexpr (Transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address(row))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
                 : "r"(shared_address(row))
                 : "memory");
}

#endif
}  // namespace birkhoff::cuda::ptx
