// Schedules, faults and the poisoned context, as tests set them.
#include <cstdlib>
#include <cstring>

#include "host.h"
#include "report.h"
#include "streams.h"

namespace cuda_emu {

Config config;
std::recursive_mutex device_mutex;

namespace {

uint64_t random_state = 88172645463325252ull;
int64_t calls = 0, fail_at = 0;
bool struck = false;
thread_local int last_error = cudaSuccess;

void read_environment() {
  const auto flag = [](const char* name, bool otherwise) {
    const char* text = getenv(name);
    return text ? atoi(text) != 0 : otherwise;
  };
  if (const char* order = getenv("CUDA_EMU_ORDER"))
    config.order = !strcmp(order, "reverse") ? kReverse : !strcmp(order, "random") ? kRandom : kForward;
  if (const char* seed = getenv("CUDA_EMU_SEED")) config.seed = strtoull(seed, nullptr, 10);
  config.lazy_streams = flag("CUDA_EMU_LAZY", config.lazy_streams);
  config.strict = flag("CUDA_EMU_STRICT", config.strict);
  config.isolate = flag("CUDA_EMU_ISOLATE", config.isolate);
  config.abort_on_error = flag("CUDA_EMU_ABORT", config.abort_on_error);
  if (const char* rounding = getenv("CUDA_EMU_MMA")) config.truncate = strcmp(rounding, "nearest") != 0;
}

int error_of(CallKind kind) {
  switch (kind) {
    case kAllocate:
      return cudaErrorMemoryAllocation;
    case kLaunch:
      return cudaErrorLaunchOutOfResources;
    case kWork:
      return cudaErrorLaunchFailure;
    case kObject:
      return cudaErrorUnknown;
    case kCapture:
      return cudaErrorStreamCaptureInvalidated;
  }
  return cudaErrorUnknown;
}

}  // namespace

void prepare() {
  static const bool once = (read_environment(), find_module(), true);
  static_cast<void>(once);
}

void seed_random(uint64_t seed) {
  random_state = seed | 1;
}
uint64_t random_bits() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

int fault(CallKind kind, const char* name) {
  if (++calls != fail_at) return cudaSuccess;
  struck = true;
  if (sticky_error) return sticky_error;
  if (kind == kWork) sticky_error = error_of(kind);
  explain("injected failure of call %lld, %s", static_cast<long long>(calls), name);
  return error_of(kind);
}

cudaError_t remember(int error) {
  if (error) last_error = error;
  return static_cast<cudaError_t>(error);
}

}  // namespace cuda_emu

using namespace cuda_emu;

void cuda_emu_config(int order, uint64_t seed, int lazy_streams, int strict) {
  const Lock lock(device_mutex);
  prepare();
  config.order = order;
  config.seed = seed;
  config.lazy_streams = lazy_streams != 0;
  config.strict = strict != 0;
}

void cuda_emu_truncate_mma(int truncate) {
  const Lock lock(device_mutex);
  prepare();
  config.truncate = truncate != 0;
}

void cuda_emu_reset() {
  const Lock lock(device_mutex);
  if (sticky_error) drop_queued_work();
  clear_reports();
  last_error = cudaSuccess;
  fail_at = 0;
}

void cuda_emu_fail_call(int64_t k) {
  const Lock lock(device_mutex);
  calls = 0;
  fail_at = k;
  struck = false;
}
int64_t cuda_emu_calls() {
  const Lock lock(device_mutex);
  return calls;
}
int cuda_emu_fault_struck() {
  const Lock lock(device_mutex);
  return struck;
}

cudaError_t cudaGetLastError() {
  const Lock lock(device_mutex);
  const int error = sticky_error ? sticky_error : last_error;
  last_error = cudaSuccess;
  return static_cast<cudaError_t>(error);
}
cudaError_t cudaPeekAtLastError() {
  const Lock lock(device_mutex);
  return static_cast<cudaError_t>(sticky_error ? sticky_error : last_error);
}
