// What every runtime API call goes through: the lock, the environment, the poisoned context, and faults on demand.
#pragma once
#include <mutex>

#include "state.h"

namespace cuda_emu {

extern std::recursive_mutex device_mutex;
using Lock = std::lock_guard<std::recursive_mutex>;

// Kinds of calls that can fail, by the error that a failure gives.
enum CallKind {
  kAllocate,  // cudaErrorMemoryAllocation
  kLaunch,    // cudaErrorLaunchOutOfResources
  kWork,      // copies, synchronisation: cudaErrorLaunchFailure, which poisons the context
  kObject,    // streams, events, pools, attributes: cudaErrorUnknown
  kCapture    // cudaErrorStreamCaptureInvalidated
};

// Reads the environment once.
void prepare();
// Counts a call; the error of an armed fault, or cudaSuccess.
int fault(CallKind kind, const char* name);
// cudaFuncSetAttribute has asked for more dynamic shared memory than every kernel may have.
bool opted_in(const void* function);
// Keeps an error for cudaGetLastError.
cudaError_t remember(int error);

// A call that can fail: refused in a poisoned context, and counted.
template <class F>
cudaError_t call(CallKind kind, const char* name, F&& action) {
  const Lock lock(device_mutex);
  prepare();
  int error = fault(kind, name);
  if (!error) error = sticky_error;
  if (!error) error = action();
  return remember(error);
}

// A call that gives something back. It acts even in a poisoned context and under a fault, whose error it returns: the
// memory of a lost context is gone as well, and a test for leaks wants to know what the library has let go.
template <class F>
cudaError_t release_call(const char* name, F&& action) {
  const Lock lock(device_mutex);
  prepare();
  int error = fault(kWork, name);
  const int refused = action();
  if (!error) error = sticky_error ? sticky_error : refused;
  return remember(error);
}

// Neither counted nor failing on demand.
template <class F>
cudaError_t query(F&& action) {
  const Lock lock(device_mutex);
  prepare();
  return remember(action());
}

}  // namespace cuda_emu
