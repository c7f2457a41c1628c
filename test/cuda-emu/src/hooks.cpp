// The functions that g++ calls in code compiled with -fsanitize=thread,alignment,bounds. They stand in for libtsan and
// libubsan, so that checked kernels run inside any process. Never compile this file, or any here, with a sanitizer.
#include <cstring>

#include "checker.h"
#include "report.h"

using namespace cuda_emu;

namespace {

inline void access(const void* address, size_t bytes, int flags, const void* pc) {
  const Lane* lane = current;
  if (!lane) return;
  const uintptr_t at = reinterpret_cast<uintptr_t>(address);
  if (at - reinterpret_cast<uintptr_t>(lane->stack) < kStackBytes) return;
  if (at - reinterpret_cast<uintptr_t>(&context) < sizeof context) return;
  check_access(at, bytes, flags, short_pc(pc));
}

}  // namespace

#define HOOK extern "C" __attribute__((visibility("hidden")))
#define PC __builtin_return_address(0)

HOOK void __tsan_init() {
  checked = true;
}
HOOK void __tsan_func_entry(void*) {}
HOOK void __tsan_func_exit() {}
HOOK void __tsan_vptr_update(void**, void*) {}
HOOK void __tsan_vptr_read(void**) {}

#define ACCESSES(n)                                   \
  HOOK void __tsan_read##n(void* p) {                 \
    access(p, n, kAligned, PC);                       \
  }                                                   \
  HOOK void __tsan_write##n(void* p) {                \
    access(p, n, kWrite | kAligned, PC);              \
  }                                                   \
  HOOK void __tsan_unaligned_read##n(void* p) {       \
    access(p, n, 0, PC);                              \
  }                                                   \
  HOOK void __tsan_unaligned_write##n(void* p) {      \
    access(p, n, kWrite, PC);                         \
  }                                                   \
  HOOK void __tsan_volatile_read##n(void* p) {        \
    access(p, n, kAligned, PC);                       \
  }                                                   \
  HOOK void __tsan_volatile_write##n(void* p) {       \
    access(p, n, kWrite | kAligned, PC);              \
  }                                                   \
  HOOK void __tsan_read_write##n(void* p) {           \
    access(p, n, kAligned, PC);                       \
    access(p, n, kWrite, PC);                         \
  }                                                   \
  HOOK void __tsan_unaligned_read_write##n(void* p) { \
    access(p, n, 0, PC);                              \
    access(p, n, kWrite, PC);                         \
  }
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

HOOK void __tsan_read_range(void* p, size_t n) {
  if (n) access(p, n, 0, PC);
}
HOOK void __tsan_write_range(void* p, size_t n) {
  if (n) access(p, n, kWrite, PC);
}
HOOK void* __tsan_memcpy(void* to, const void* from, size_t n) {
  if (n) {
    access(from, n, 0, PC);
    access(to, n, kWrite, PC);
  }
  return memcpy(to, from, n);
}
HOOK void* __tsan_memmove(void* to, const void* from, size_t n) {
  if (n) {
    access(from, n, 0, PC);
    access(to, n, kWrite, PC);
  }
  return memmove(to, from, n);
}
HOOK void* __tsan_memset(void* to, int value, size_t n) {
  if (n) access(to, n, kWrite, PC);
  return memset(to, value, n);
}

// Host code of a kernel's source file may use atomics (shared_ptr, guards of statics): sequentially consistent ones.
#define READ_MODIFY_WRITE(n, T, name)                         \
  HOOK T __tsan_atomic##n##_##name(volatile T* p, T v, int) { \
    return __atomic_##name(p, v, __ATOMIC_SEQ_CST);           \
  }
#define COMPARE_EXCHANGE(n, T, name)                                                        \
  HOOK int __tsan_atomic##n##_compare_exchange_##name(volatile T* p, T* c, T v, int, int) { \
    return __atomic_compare_exchange_n(p, c, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }
#define ATOMICS(n, T)                                                                 \
  HOOK T __tsan_atomic##n##_load(const volatile T* p, int) {                          \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                      \
  }                                                                                   \
  HOOK void __tsan_atomic##n##_store(volatile T* p, T v, int) {                       \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                         \
  }                                                                                   \
  HOOK T __tsan_atomic##n##_exchange(volatile T* p, T v, int) {                       \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                               \
  }                                                                                   \
  READ_MODIFY_WRITE(n, T, fetch_add)                                                  \
  READ_MODIFY_WRITE(n, T, fetch_sub)                                                  \
  READ_MODIFY_WRITE(n, T, fetch_and)                                                  \
  READ_MODIFY_WRITE(n, T, fetch_or)                                                   \
  READ_MODIFY_WRITE(n, T, fetch_xor)                                                  \
  COMPARE_EXCHANGE(n, T, strong)                                                      \
  COMPARE_EXCHANGE(n, T, weak)                                                        \
  HOOK T __tsan_atomic##n##_compare_exchange_val(volatile T* p, T c, T v, int, int) { \
    __atomic_compare_exchange_n(p, &c, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
    return c;                                                                         \
  }
ATOMICS(8, uint8_t)
ATOMICS(16, uint16_t)
ATOMICS(32, uint32_t)
ATOMICS(64, uint64_t)
HOOK void __tsan_atomic_thread_fence(int) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
HOOK void __tsan_atomic_signal_fence(int) {}

// -fsanitize=alignment,bounds. The layouts are the compiler's.
struct UbsanPlace {
  const char* file;
  uint32_t line, column;
};
struct UbsanMismatch {
  UbsanPlace place;
  const void* type;
  uint8_t log_alignment, kind;
};
static void fail_anywhere(Kind kind, int cuda_error, const std::string& text) {
  if (current) fail_kind(kind, cuda_error, "%s", text.c_str());
  report(kind, cuda_error, text);
}
HOOK void __ubsan_handle_type_mismatch_v1(UbsanMismatch* data, uintptr_t address) {
  const std::string place = std::string(data->place.file) + ":" + std::to_string(data->place.line);
  if (!address) return fail_anywhere(kBounds, cudaErrorIllegalAddress, "access through a null pointer at " + place);
  const uintptr_t alignment = uintptr_t{1} << data->log_alignment;
  fail_anywhere(kMisaligned, cudaErrorMisalignedAddress,
                "misaligned access at " + place + ": address % " + std::to_string(alignment) + " = " +
                    std::to_string(address & (alignment - 1)));
}
HOOK void __ubsan_handle_type_mismatch_v1_abort(UbsanMismatch* data, uintptr_t address) {
  __ubsan_handle_type_mismatch_v1(data, address);
}
HOOK void __ubsan_handle_out_of_bounds(UbsanPlace* place, uintptr_t index) {
  fail_anywhere(kBounds, cudaErrorIllegalAddress,
                "array index " + std::to_string(static_cast<int64_t>(index)) + " out of bounds at " + place->file +
                    ":" + std::to_string(place->line));
}
HOOK void __ubsan_handle_out_of_bounds_abort(UbsanPlace* place, uintptr_t index) {
  __ubsan_handle_out_of_bounds(place, index);
}
