// Shuffles, votes and reductions of a warp. __activemask() is missing on purpose: the programming model does not define
// its value.
#pragma once
#include <cstring>
#include <type_traits>

#include "cuda_emu/executor.h"

#define CUDA_EMU_SHUFFLE(name, kind, Operand)                                                             \
  template <class T>                                                                                      \
  inline T name(unsigned mask, T value, Operand operand, int width = 32, CUDA_EMU_SITE) {                 \
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 16, "a type that shuffles can move");   \
    T result = value;                                                                                     \
    cuda_emu::shuffle(cuda_emu::kind, mask, &value, &result, sizeof(T), static_cast<int>(operand), width, \
                      cuda_emu_site);                                                                     \
    return result;                                                                                        \
  }
CUDA_EMU_SHUFFLE(__shfl_sync, kShuffleIndex, int)
CUDA_EMU_SHUFFLE(__shfl_up_sync, kShuffleUp, unsigned)
CUDA_EMU_SHUFFLE(__shfl_down_sync, kShuffleDown, unsigned)
CUDA_EMU_SHUFFLE(__shfl_xor_sync, kShuffleXor, int)
#undef CUDA_EMU_SHUFFLE

inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_EMU_SITE) {
  return cuda_emu::ballot(mask, predicate, cuda_emu_site);
}
inline int __any_sync(unsigned mask, int predicate, CUDA_EMU_SITE) {
  return cuda_emu::ballot(mask, predicate, cuda_emu_site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_EMU_SITE) {
  return cuda_emu::ballot(mask, !predicate, cuda_emu_site) == 0;
}
template <class T>
inline unsigned __match_any_sync(unsigned mask, T value, CUDA_EMU_SITE) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return cuda_emu::match_any(mask, bits, cuda_emu_site);
}

#define CUDA_EMU_REDUCE(name, kind, T)                                                                             \
  inline T name(unsigned mask, T value, CUDA_EMU_SITE) {                                                           \
    return static_cast<T>(                                                                                         \
        cuda_emu::reduce(mask, static_cast<unsigned>(value), cuda_emu::kind, std::is_signed_v<T>, cuda_emu_site)); \
  }
CUDA_EMU_REDUCE(__reduce_add_sync, kReduceAdd, unsigned)
CUDA_EMU_REDUCE(__reduce_add_sync, kReduceAdd, int)
CUDA_EMU_REDUCE(__reduce_min_sync, kReduceMin, unsigned)
CUDA_EMU_REDUCE(__reduce_min_sync, kReduceMin, int)
CUDA_EMU_REDUCE(__reduce_max_sync, kReduceMax, unsigned)
CUDA_EMU_REDUCE(__reduce_max_sync, kReduceMax, int)
CUDA_EMU_REDUCE(__reduce_and_sync, kReduceAnd, unsigned)
CUDA_EMU_REDUCE(__reduce_or_sync, kReduceOr, unsigned)
CUDA_EMU_REDUCE(__reduce_xor_sync, kReduceXor, unsigned)
#undef CUDA_EMU_REDUCE
