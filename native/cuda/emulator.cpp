// What an executor build offers to tests; null elsewhere.
#include "cuda/backend.h"
#include "cuda/context.h"

#ifdef BIRKHOFF_CUDA_EMULATED
extern "C" {
void cuda_emu_config(int order, uint64_t seed, int lazy_streams, int strict);
void cuda_emu_truncate_mma(int truncate);
void cuda_emu_fail_call(int64_t countdown);
int64_t cuda_emu_calls();
int64_t cuda_emu_live_allocations();
int64_t cuda_emu_reserved_bytes(int created);
int64_t cuda_emu_pinned_bytes();
int cuda_emu_internal_dependencies();
int cuda_emu_count(int kind);
const char* cuda_emu_last_report();
void cuda_emu_reset();
}
#endif

namespace birkhoff::cuda {

const Emulator* emulator() {
#ifdef BIRKHOFF_CUDA_EMULATED
  static constexpr Emulator functions = {
      [](int order, uint64_t seed, bool lazy, bool strict) { cuda_emu_config(order, seed, lazy, strict); },
      [](bool truncate) { cuda_emu_truncate_mma(truncate); },
      cuda_emu_fail_call,
      cuda_emu_calls,
      cuda_emu_live_allocations,
      cuda_emu_reserved_bytes,
      cuda_emu_pinned_bytes,
      cuda_emu_internal_dependencies,
      cuda_emu_count,
      cuda_emu_last_report,
      [] {
        cuda_emu_reset();
        Context::heal_all();
      }};
  return &functions;
#else
  return nullptr;
#endif
}

}  // namespace birkhoff::cuda
