// Fails each runtime call of a small training step in turn, as tests of the library do: every failure is an error, the
// step after it is right, and nothing leaks.
#include <set>
#include <string>

#include "checks.h"

namespace {

constexpr int kCount = 64;
constexpr size_t kBytes = kCount * sizeof(float);

__global__ void step_kernel(float* weights, const float* gradient) {
  weights[threadIdx.x] -= gradient[threadIdx.x];
}

struct Step {
  cudaStream_t stream = nullptr;
  cudaEvent_t event = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  float *weights = nullptr, *gradient = nullptr, *staging = nullptr;
  float result = 0;

  int run() {
    int error = cudaSuccess;
    const auto ok = [&](cudaError_t e) { return !(error = e); };
    ok(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)) && ok(cudaEventCreate(&event)) &&
        ok(cudaMalloc(reinterpret_cast<void**>(&weights), kBytes)) &&
        ok(cudaMallocAsync(reinterpret_cast<void**>(&gradient), kBytes, stream)) &&
        ok(cudaMallocHost(reinterpret_cast<void**>(&staging), kBytes)) &&
        ok(cudaMemsetAsync(weights, 0, kBytes, stream)) && ok(fill_gradient()) &&
        ok(launch(step_kernel, 1, kCount, 0, stream, weights, static_cast<const float*>(gradient))) &&
        ok(cudaEventRecord(event, stream)) && ok(cudaStreamWaitEvent(stream, event, 0)) &&
        ok(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal)) &&
        ok(launch(step_kernel, 1, kCount, 0, stream, weights, static_cast<const float*>(gradient))) &&
        ok(cudaStreamEndCapture(stream, &graph)) && ok(cudaGraphInstantiate(&executable, graph, 0)) &&
        ok(cudaGraphLaunch(executable, stream)) && ok(cudaGraphLaunch(executable, stream)) &&
        ok(cudaMemcpyAsync(staging, weights, kBytes, cudaMemcpyDeviceToHost, stream)) &&
        ok(cudaEventSynchronize(event)) && ok(cudaStreamSynchronize(stream));
    if (!error) result = staging[kCount - 1];
    const int first_error = error;
    clean_up(ok);
    return first_error ? first_error : error;
  }

 private:
  cudaError_t fill_gradient() {
    for (int i = 0; i < kCount; ++i) staging[i] = static_cast<float>(i);
    return cudaMemcpyAsync(gradient, staging, kBytes, cudaMemcpyHostToDevice, stream);
  }
  // Goes on past errors, as destructors do.
  template <class Ok>
  void clean_up(Ok&& ok) {
    int first = cudaSuccess;
    const auto done = [&](cudaError_t e) {
      if (!first) first = e;
    };
    cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
    if (stream) cudaStreamIsCapturing(stream, &status);
    if (status != cudaStreamCaptureStatusNone) cudaStreamEndCapture(stream, &graph);
    if (executable) done(cudaGraphExecDestroy(executable));
    if (graph) done(cudaGraphDestroy(graph));
    if (weights) done(cudaFree(weights));
    if (gradient) done(cudaFreeAsync(gradient, stream));
    if (staging) done(cudaFreeHost(staging));
    if (event) done(cudaEventDestroy(event));
    if (stream) done(cudaStreamDestroy(stream));
    ok(static_cast<cudaError_t>(first));
  }
};

bool right_step() {
  Step step;
  return step.run() == cudaSuccess && step.result == -3.0f * (kCount - 1);
}

}  // namespace

void run_faults() {
  cuda_emu_fail_call(0);
  expect("the step without a fault", right_step());
  const int64_t calls = cuda_emu_calls();
  expect("its calls are counted", calls >= 20);
  std::set<int> errors;
  bool struck = true, sticky = true;
  for (int64_t k = 1; k <= calls; ++k) {
    cuda_emu_fail_call(k);
    Step step;
    const int error = step.run();
    errors.insert(error);
    struck &= error != cudaSuccess && cuda_emu_fault_struck();
    if (error == cudaErrorLaunchFailure)  // the context is lost until it is reset
      sticky &= cudaGetLastError() == error && cudaGetLastError() == error && cudaDeviceSynchronize() == error;
    const std::string where = "call " + std::to_string(k) + " of " + std::to_string(calls);
    expect(where + ": named in the report",
           std::string(cuda_emu_last_report()).find("injected failure of call " + std::to_string(k)) == 0);
    cuda_emu_reset();
    expect(where + ": nothing leaks", cuda_emu_live_allocations() == 0 && cuda_emu_live_bytes() == 0);
    expect(where + ": the next step is right", right_step());
  }
  expect("every failure is an error", struck);
  expect("a lost context stays lost until the reset", sticky);
  expect("errors are those that the calls give",
         errors == std::set<int>{cudaErrorMemoryAllocation, cudaErrorUnknown, cudaErrorLaunchFailure,
                                 cudaErrorLaunchOutOfResources, cudaErrorStreamCaptureInvalidated});
}
