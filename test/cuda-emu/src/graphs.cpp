// Capture and replay. A graph holds its nodes in the order in which they were captured, which is one that the
// dependencies allow; a stream that was forked and not joined again is an error, as on a GPU.
#include "host.h"
#include "report.h"
#include "streams.h"

using namespace cuda_emu;

namespace {

struct Executable {
  std::shared_ptr<Graph> graph;
};
std::shared_ptr<Graph>& graph_of(cudaGraph_t handle) {
  return *reinterpret_cast<std::shared_ptr<Graph>*>(handle);
}

// Captured work of other streams that the origin does not come after.
bool unjoined(const Capture& capture, const std::vector<Stream*>& members) {
  for (const Stream* member : members) {
    const auto own = member->seen.find(member);
    if (own == member->seen.end() || member == capture.origin) continue;
    const auto known = capture.origin->seen.find(member);
    if (known == capture.origin->seen.end() || known->second < own->second) return true;
  }
  return false;
}

int end_capture(Stream* stream, cudaGraph_t* handle) {
  *handle = nullptr;
  const auto capture = stream->capture;
  if (!capture) return cudaErrorIllegalState;
  if (capture->origin != stream) return cudaErrorStreamCaptureUnmatched;
  const auto members = members_of(*capture);
  const bool forked = unjoined(*capture, members);
  for (Stream* member : members) {
    member->capture = nullptr;
    member->seen.clear();
  }
  capture->ended = true;
  if (capture->invalid) return cudaErrorStreamCaptureInvalidated;
  if (forked) return cudaErrorStreamCaptureUnjoined;
  *handle = reinterpret_cast<cudaGraph_t>(new std::shared_ptr<Graph>(capture->graph));
  return cudaSuccess;
}

}  // namespace

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode mode) {
  return call(kObject, __func__, [&]() -> int {
    Stream* stream = stream_of(handle);
    if (stream == stream_of(nullptr)) return cudaErrorStreamCaptureUnsupported;
    if (stream->capture) return cudaErrorIllegalState;
    stream->capture = std::make_shared<Capture>();
    stream->capture->origin = stream;
    stream->capture->mode = mode;
    stream->seen.clear();
    return cudaSuccess;
  });
}

// A failure ends the capture all the same, as the driver's does.
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* graph) {
  const Lock lock(device_mutex);
  prepare();
  const int injected = fault(kCapture, __func__);
  Stream* stream = stream_of(handle);
  if ((injected || sticky_error) && stream->capture) stream->capture->invalid = true;
  const int error = end_capture(stream, graph);
  return remember(sticky_error ? sticky_error : injected ? injected : error);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t handle, cudaStreamCaptureStatus* status) {
  return query([&] {
    const auto& capture = stream_of(handle)->capture;
    *status = !capture           ? cudaStreamCaptureStatusNone
              : capture->invalid ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  return call(kAllocate, __func__, [&] {
    *executable = reinterpret_cast<cudaGraphExec_t>(new Executable{graph_of(graph)});
    return cudaSuccess;
  });
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  return cudaGraphInstantiate(executable, graph, flags);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return call(kLaunch, __func__, [&] {
    const auto graph = reinterpret_cast<Executable*>(executable)->graph;
    return enqueue(stream_of(stream), [graph] {
      for (const Action& node : graph->nodes)
        if (!sticky_error) node();
    });
  });
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  return call(kAllocate, __func__, [] { return cudaSuccess; });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  return query([&] {
    *count = graph_of(graph)->nodes.size();
    return cudaSuccess;
  });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return query([&] {
    delete reinterpret_cast<Executable*>(executable);
    return cudaSuccess;
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return query([&] {
    delete &graph_of(graph);
    return cudaSuccess;
  });
}
