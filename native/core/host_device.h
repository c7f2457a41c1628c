// Per-token maths is written once, for host and device.
#pragma once

#ifdef __CUDACC__
#define MHC_HD __host__ __device__ __forceinline__
// In full: arrays stay in registers only where every index is known.
#define MHC_UNROLL(count) _Pragma("unroll")
#define MHC_COLD __host__ __device__ __noinline__
#define MHC_ROLLED _Pragma("unroll 1")
// Whatever needs the value comes after: keeps ptxas from starting so many terms of a sum at once that they spill.
#if defined(__CUDA_ARCH__) && !defined(BIRKHOFF_CUDA_EMULATED)
#define MHC_IN_ORDER(value) asm volatile("" : "+f"(value))
#else
#define MHC_IN_ORDER(value) static_cast<void>(value)
#endif
#else
// Always inlined: the CPU kernels are compiled once per instruction set, and an out-of-line copy shared between them
// could carry instructions that the machine lacks.
#define MHC_HD inline __attribute__((always_inline))
#define MHC_PRAGMA(text) _Pragma(#text)
#define MHC_UNROLL(count) MHC_PRAGMA(GCC unroll count)
#define MHC_COLD static __attribute__((noinline, cold))
#define MHC_ROLLED
#define MHC_IN_ORDER(value) static_cast<void>(value)
#endif
