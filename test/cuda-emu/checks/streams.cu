// Streams that run late, events, graphs, pools, and the arguments that the API refuses.
#include <memory>

#include "checks.h"

namespace {

constexpr int kCount = 100;
constexpr size_t kBytes = kCount * sizeof(float);

__global__ void add(float* values, float amount) {
  if (threadIdx.x < kCount) values[threadIdx.x] += amount;
}
__global__ void scale(float* out, const float* in, float factor) {
  if (threadIdx.x < kCount) out[threadIdx.x] = in[threadIdx.x] * factor;
}
__global__ void fill_dynamic(float* out) {
  CUDA_EMU_DYN_SHARED(float, tile);
  tile[threadIdx.x] = 1;
  out[threadIdx.x] = tile[threadIdx.x];
}

struct Fixture {
  cudaStream_t first, second;
  cudaEvent_t forked, joined;
  Buffer<float> values{kCount}, scaled{kCount};
  float* pinned;
  Fixture() {
    cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking);
    cudaStreamCreateWithPriority(&second, cudaStreamNonBlocking, -1);
    cudaEventCreateWithFlags(&forked, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&joined, cudaEventDisableTiming);
    cudaMallocHost(reinterpret_cast<void**>(&pinned), kBytes);
    clear();
  }
  ~Fixture() {
    cudaStreamDestroy(first);
    cudaStreamDestroy(second);
    cudaEventDestroy(forked);
    cudaEventDestroy(joined);
    cudaFreeHost(pinned);
  }
  void clear() {
    cudaMemsetAsync(values.data, 0, kBytes, first);
    cudaMemsetAsync(scaled.data, 0, kBytes, first);
    cudaStreamSynchronize(first);
    pinned[0] = -1;
  }
  void fork() {
    cudaEventRecord(forked, first);
    cudaStreamWaitEvent(second, forked, 0);
  }
  void join() {
    cudaEventRecord(joined, second);
    cudaStreamWaitEvent(first, joined, 0);
  }
  void add_to_values(float amount) { launch(add, 1, 128, 0, first, values.data, amount); }
  void scale_values(float factor) {
    launch(scale, 1, 128, 0, second, scaled.data, static_cast<const float*>(values.data), factor);
  }
  void fetch() { cudaMemcpyAsync(pinned, scaled.data, kBytes, cudaMemcpyDeviceToHost, first); }
};

int taken() {
  const int error = cudaGetLastError();
  cuda_emu_reset();
  return error;
}

void check_events(Fixture& f) {
  f.clear();
  f.add_to_values(3);
  f.fork();
  f.scale_values(2);
  f.join();
  f.fetch();
  cudaStreamSynchronize(f.first);
  expect("fork and join through events", f.pinned[0] == 6 && f.pinned[kCount - 1] == 6);

  f.add_to_values(1);
  cudaEventRecord(f.forked, f.first);
  while (cudaEventQuery(f.forked) == cudaErrorNotReady) {
  }
  cudaMemcpy(f.pinned, f.values.data, kBytes, cudaMemcpyDeviceToHost);
  expect("polling an event comes to an end", f.pinned[0] == 4);
}

// With seeds 0 to 19: how often the second stream was too early.
int wrong_results(Fixture& f, bool with_event) {
  int wrong = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    cuda_emu_config(2, seed, 1, 1);
    f.clear();
    f.add_to_values(3);
    if (with_event) f.fork();
    f.scale_values(2);
    cudaDeviceSynchronize();
    cudaMemcpy(f.pinned, f.scaled.data, kBytes, cudaMemcpyDeviceToHost);
    wrong += f.pinned[0] != 6;
  }
  return wrong;
}

// Lazy streams only: what has been waited for too early is not there.
void check_lazy(Fixture& f) {
  cuda_emu_config(0, 1, 1, 1);
  f.clear();
  f.add_to_values(3);
  cudaMemcpyAsync(f.pinned, f.values.data, kBytes, cudaMemcpyDeviceToHost, f.first);
  expect("lazy: no result before the synchronisation", f.pinned[0] == -1);
  cudaStreamSynchronize(f.first);
  expect("lazy: the result after it", f.pinned[0] == 3);

  f.pinned[0] = 5;
  cudaMemcpyAsync(f.values.data, f.pinned, kBytes, cudaMemcpyHostToDevice, f.first);
  f.pinned[0] = 7;  // the staging buffer is used again too early
  cudaStreamSynchronize(f.first);
  cudaMemcpy(f.pinned, f.values.data, kBytes, cudaMemcpyDeviceToHost);
  expect("lazy: a staging buffer that is used again too early", f.pinned[0] == 7);

  expect("lazy: a missing event gives wrong results under some seeds", wrong_results(f, false) > 0);
  expect("lazy: the event gives right ones under all", wrong_results(f, true) == 0);
}

void check_graphs(Fixture& f) {
  f.clear();
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cudaStreamBeginCapture(f.first, cudaStreamCaptureModeThreadLocal);
  cudaStreamCaptureStatus status;
  cudaStreamIsCapturing(f.first, &status);
  f.add_to_values(1);
  f.fork();
  f.scale_values(10);
  f.join();
  f.fetch();
  expect("graph: capture over two streams", status == cudaStreamCaptureStatusActive &&
                                                cudaStreamEndCapture(f.first, &graph) == cudaSuccess &&
                                                cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess);
  cudaGraphDestroy(graph);
  cudaMemcpy(f.pinned, f.values.data, kBytes, cudaMemcpyDeviceToHost);
  expect("graph: capture runs nothing", f.pinned[0] == 0);
  for (int i = 0; i < 3; ++i) cudaGraphLaunch(executable, f.first);
  cudaStreamSynchronize(f.first);
  expect("graph: three launches", f.pinned[50] == 30);
  cudaGraphExecDestroy(executable);

  cudaStreamBeginCapture(f.first, cudaStreamCaptureModeThreadLocal);
  expect("graph: synchronisation during a capture is refused",
         cudaStreamSynchronize(f.first) == cudaErrorStreamCaptureUnsupported);
  expect("graph: and invalidates it", cudaStreamEndCapture(f.first, &graph) == cudaErrorStreamCaptureInvalidated);
  cudaStreamBeginCapture(f.first, cudaStreamCaptureModeThreadLocal);
  void* memory;
  expect("graph: cudaMalloc during a capture is refused", cudaMalloc(&memory, 16) == cudaErrorStreamCaptureUnsupported);
  cudaStreamEndCapture(f.first, &graph);
  cudaStreamBeginCapture(f.first, cudaStreamCaptureModeThreadLocal);
  f.add_to_values(1);
  f.fork();
  f.scale_values(1);
  expect("graph: a stream that was not joined again",
         cudaStreamEndCapture(f.first, &graph) == cudaErrorStreamCaptureUnjoined);
  expect("graph: its event cannot be waited for", cudaStreamWaitEvent(f.second, f.forked, 0) == cudaErrorCapturedEvent);

  // Memory allocated and freed in the graph is fresh in each replay and goes with the graph.
  const int64_t live = cuda_emu_live_allocations();
  cudaStreamBeginCapture(f.first, cudaStreamCaptureModeThreadLocal);
  float* temporary;
  cudaMallocAsync(reinterpret_cast<void**>(&temporary), kBytes, f.first);
  launch(scale, 1, 128, 0, f.first, temporary, static_cast<const float*>(f.values.data), 2.0f);
  cudaFreeAsync(temporary, f.first);
  cudaStreamEndCapture(f.first, &graph);
  cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphLaunch(executable, f.first);
  cudaGraphLaunch(executable, f.first);
  expect("graph: captured allocation", cudaStreamSynchronize(f.first) == cudaSuccess);
  cudaGraphDestroy(graph);
  cudaGraphExecDestroy(executable);
  expect("graph: captured allocation is gone with the graph", cuda_emu_live_allocations() == live);
  taken();
}

void check_arguments(Fixture& f) {
  cudaFuncSetAttribute(fill_dynamic, cudaFuncAttributeMaxDynamicSharedMemorySize, 48 * 1024);
  expect("more than 48 KiB of dynamic shared memory needs the attribute",
         launch(fill_dynamic, 1, 32, 60000, f.first, f.values.data) == cudaErrorInvalidValue);
  cudaFuncSetAttribute(fill_dynamic, cudaFuncAttributeMaxDynamicSharedMemorySize, 60000);
  launch(fill_dynamic, 1, 32, 60000, f.first, f.values.data);
  expect("and runs with it", cudaStreamSynchronize(f.first) == cudaSuccess);
  expect("a block of 2048 threads is refused",
         launch(add, 1, 2048, 0, f.first, f.values.data, 1.0f) == cudaErrorInvalidConfiguration);
  expect("cudaGetLastError gives the error once",
         cudaGetLastError() == cudaErrorInvalidConfiguration && cudaGetLastError() == cudaSuccess);
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  cudaLaunchConfig_t config{};
  config.gridDim = 1;
  config.blockDim = 32;
  config.stream = f.first;
  config.attrs = &attribute;
  config.numAttrs = 1;
  expect("programmatic serialization is accepted",
         cudaLaunchKernelEx(&config, add, f.values.data, 1.0f) == cudaSuccess);
  attribute.id = cudaLaunchAttributeCooperative;
  expect("cooperative launches are not",
         cudaLaunchKernelEx(&config, add, f.values.data, 1.0f) == cudaErrorNotSupported);

  cudaStreamSynchronize(f.first);
  float host[kCount];
  expect("a copy of the wrong kind is refused",
         cudaMemcpy(f.values.data, host, kBytes, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  expect("a copy beyond an allocation is refused",
         cudaMemcpy(host, f.values.data + 1, kBytes, cudaMemcpyDeviceToHost) == cudaErrorInvalidValue);
  cudaMemset(f.values.data, 0, kBytes);
  cudaMemcpy(f.scaled.data, f.values.data, kBytes, cudaMemcpyDeviceToDevice);
  cudaMemcpy(host, f.scaled.data, kBytes, cudaMemcpyDeviceToHost);
  expect("device to device", host[0] == 0 && host[kCount - 1] == 0);
  const Buffer<float> never_written(kCount);
  cudaMemcpy(f.scaled.data, never_written.data, kBytes, cudaMemcpyDeviceToDevice);
  launch(add, 1, 128, 0, f.first, f.scaled.data, 1.0f);
  cudaStreamSynchronize(f.first);
  expect("a copy of uninitialised memory is uninitialised", cuda_emu_count(CUDA_EMU_UNINITIALISED) > 0);
  taken();

  float* freed;
  cudaMallocAsync(reinterpret_cast<void**>(&freed), kBytes, f.first);
  cudaFreeAsync(freed, f.first);
  launch(scale, 1, 128, 0, f.first, freed, static_cast<const float*>(f.values.data), 1.0f);
  expect("use after cudaFreeAsync", cudaStreamSynchronize(f.first) == cudaErrorIllegalAddress);
  taken();
  expect("two frees of the same memory", cudaFree(freed) == cudaErrorInvalidValue);
  taken();
}

void check_pools(Fixture& f) {
  cudaMemPoolProps properties{};
  cudaMemPool_t pool;
  cudaMemPoolCreate(&pool, &properties);
  uint64_t threshold = ~uint64_t{0}, used = 0, high = 0;
  cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold);
  void* memory;
  cudaMallocFromPoolAsync(&memory, 1000, pool, f.first);
  cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &used);
  cudaFreeAsync(memory, f.first);
  cudaStreamSynchronize(f.first);
  cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemHigh, &high);
  uint64_t after = 1;
  cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &after);
  expect("pool: memory in use", used == 1000 && high == 1000 && after == 0);
  const auto reserved = [&] {
    uint64_t bytes = 0;
    cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &bytes);
    return bytes;
  };
  expect("pool: what is freed is kept", reserved() == 1000 && cuda_emu_reserved_bytes(1) == 1000);
  void* other;
  cudaMallocFromPoolAsync(&memory, 600, pool, f.first);
  cudaMallocFromPoolAsync(&other, 500, pool, f.first);
  expect("pool: and used again where it is large enough", reserved() == 1500);
  cudaFreeAsync(memory, f.first);
  threshold = 900;
  cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &threshold);
  expect("pool: not given back before somebody waits", reserved() == 1500);
  cudaStreamSynchronize(f.first);
  expect("pool: then down to the threshold, or to what is in use", reserved() == 500);
  cudaFreeAsync(other, f.first);
  cudaStreamSynchronize(f.first);
  expect("pool: below the threshold it stays", reserved() == 500);
  cudaMemPoolTrimTo(pool, 0);
  expect("pool: trimmed", reserved() == 0);
  int internal = 0;
  expect("pool: streams may be made to wait", cuda_emu_internal_dependencies() == 1);
  cudaMemPoolSetAttribute(pool, cudaMemPoolReuseAllowInternalDependencies, &internal);
  expect("pool: or not", cuda_emu_internal_dependencies() == 0);
  cudaMemPoolDestroy(pool);
  size_t free_bytes, total;
  cudaMemGetInfo(&free_bytes, &total);
  expect("more than the device has", cudaMalloc(&memory, total + 1) == cudaErrorMemoryAllocation);
  taken();
}

}  // namespace

void run_streams() {
  {
    Fixture fixture;
    check_events(fixture);
    check_graphs(fixture);
    check_arguments(fixture);
    check_pools(fixture);
    check_lazy(fixture);
  }
  expect("nothing is left", cuda_emu_live_allocations() == 0 && cuda_emu_live_bytes() == 0);
}
