// What tests may ask of the executor: schedules, counts of reports, faults, leaks. Exported, so that an addon can hand
// them to JavaScript.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#define CUDA_EMU_EXPORT __attribute__((visibility("default")))

// order of threads and streams: 0 forward, 1 reverse, 2 random by seed. lazy_streams: work runs at the latest point, in
// any order that streams and events allow. strict: barriers and collectives must meet at the same source line.
// Defaults: forward, 1, 0, 1; or CUDA_EMU_ORDER=forward|reverse|random, CUDA_EMU_SEED, CUDA_EMU_LAZY, CUDA_EMU_STRICT.
CUDA_EMU_EXPORT void cuda_emu_config(int order, uint64_t seed, int lazy_streams, int strict);

// How mma rounds: 1 as tensor cores do (cut off towards zero), 0 each step to the nearest float32. Default 1, or
// CUDA_EMU_MMA=truncate|nearest.
CUDA_EMU_EXPORT void cuda_emu_truncate_mma(int truncate);

// Reports since the last reset, by kind.
enum {
  CUDA_EMU_RACE,
  CUDA_EMU_BOUNDS,
  CUDA_EMU_UNINITIALISED,
  CUDA_EMU_DIVERGENCE,
  CUDA_EMU_MISALIGNED,
  CUDA_EMU_OTHER,
  CUDA_EMU_KINDS
};
CUDA_EMU_EXPORT int cuda_emu_count(int kind);
// The last report's text, or "". Valid until the calling thread's next call.
CUDA_EMU_EXPORT const char* cuda_emu_last_report(void);
// Clears sticky errors, counts, reports and an armed fault. Work queued in a poisoned context is dropped.
CUDA_EMU_EXPORT void cuda_emu_reset(void);

// The k-th fallible API call from now (1: the next) fails without acting; 0 disarms. Starts the count of calls.
// Fallible are allocation (cudaErrorMemoryAllocation), launches (cudaErrorLaunchOutOfResources), creation of streams,
// events and pools, attributes, records and waits (cudaErrorUnknown), cudaStreamEndCapture (the capture is lost);
// copies, memsets, frees, synchronisation and polling give cudaErrorLaunchFailure and poison the context. Not counted:
// what only asks (errors, properties, attributes), and destruction. A free that fails has freed: the context's memory
// is lost.
CUDA_EMU_EXPORT void cuda_emu_fail_call(int64_t k);
// Fallible API calls since the last cuda_emu_fail_call.
CUDA_EMU_EXPORT int64_t cuda_emu_calls(void);
// The armed fault has struck.
CUDA_EMU_EXPORT int cuda_emu_fault_struck(void);

// Device allocations and pinned host allocations that were not freed.
CUDA_EMU_EXPORT int64_t cuda_emu_live_allocations(void);
CUDA_EMU_EXPORT int64_t cuda_emu_live_bytes(void);

// Device memory that pools hold, in use or kept: of the default pool (0), of all that were created (1).
CUDA_EMU_EXPORT int64_t cuda_emu_reserved_bytes(int created);
CUDA_EMU_EXPORT int64_t cuda_emu_pinned_bytes(void);
// A pool that was created may make a stream wait for another (cudaMemPoolReuseAllowInternalDependencies).
CUDA_EMU_EXPORT int cuda_emu_internal_dependencies(void);

#ifdef __cplusplus
}
#endif
