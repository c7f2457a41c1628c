// Loads and stores with cache hints (plain ones here) and atomics.
#pragma once
#include <type_traits>

#include "cuda_emu/executor.h"

#define CUDA_EMU_LOAD(name)         \
  template <class T>                \
  inline T name(const T* address) { \
    return *address;                \
  }
CUDA_EMU_LOAD(__ldg)
CUDA_EMU_LOAD(__ldca)
CUDA_EMU_LOAD(__ldcg)
CUDA_EMU_LOAD(__ldcs)
CUDA_EMU_LOAD(__ldcv)
CUDA_EMU_LOAD(__ldlu)
#undef CUDA_EMU_LOAD

#define CUDA_EMU_STORE(name)                                    \
  template <class T>                                            \
  inline void name(T* address, std::type_identity_t<T> value) { \
    *address = value;                                           \
  }
CUDA_EMU_STORE(__stcg)
CUDA_EMU_STORE(__stcs)
CUDA_EMU_STORE(__stwb)
CUDA_EMU_STORE(__stwt)
#undef CUDA_EMU_STORE

namespace cuda_emu {

// Blocks run one at a time and threads switch only at synchronising calls, so a plain read-modify-write is atomic.
template <class T, class F>
__attribute__((no_sanitize("thread"), no_sanitize("address"))) inline T read_modify_write(T* address, F change,
                                                                                          Site site) {
  atomic_begin(address, sizeof(T), site);
  T old;
  __builtin_memcpy(&old, address, sizeof(T));
  const T changed = change(old);
  __builtin_memcpy(address, &changed, sizeof(T));
  return old;
}

}  // namespace cuda_emu

#define CUDA_EMU_ATOMIC(name, expression)                                                     \
  template <class T>                                                                          \
  inline T name(T* address, std::type_identity_t<T> value, CUDA_EMU_SITE) {                   \
    return cuda_emu::read_modify_write(                                                       \
        address, [value]([[maybe_unused]] T old) -> T { return expression; }, cuda_emu_site); \
  }
CUDA_EMU_ATOMIC(atomicAdd, old + value)
CUDA_EMU_ATOMIC(atomicSub, old - value)
CUDA_EMU_ATOMIC(atomicExch, value)
CUDA_EMU_ATOMIC(atomicMax, old < value ? value : old)
CUDA_EMU_ATOMIC(atomicMin, value < old ? value : old)
CUDA_EMU_ATOMIC(atomicAnd, old& value)
CUDA_EMU_ATOMIC(atomicOr, old | value)
CUDA_EMU_ATOMIC(atomicXor, old ^ value)
CUDA_EMU_ATOMIC(atomicInc, old >= value ? T(0) : T(old + 1))
#undef CUDA_EMU_ATOMIC
template <class T>
inline T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value, CUDA_EMU_SITE) {
  return cuda_emu::read_modify_write(
      address, [compare, value](T old) -> T { return old == compare ? value : old; }, cuda_emu_site);
}
