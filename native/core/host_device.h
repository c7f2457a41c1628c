// Per-token maths is written once, for host and device.
#pragma once

#ifdef __CUDACC__
#define MHC_HD __host__ __device__ __forceinline__
// In full: arrays stay in registers only where every index is known.
#define MHC_UNROLL(count) _Pragma("unroll")
#else
// Always inlined: the CPU kernels are compiled once per instruction set, and an out-of-line copy shared between them
// could carry instructions that the machine lacks.
#define MHC_HD inline __attribute__((always_inline))
#define MHC_PRAGMA(text) _Pragma(#text)
#define MHC_UNROLL(count) MHC_PRAGMA(GCC unroll count)
#endif
