// The queues behind streams. Lazy mode runs queued work in any order that streams and events allow, so that a missing
// event or synchronisation gives wrong results here before it does so on a GPU.
#include "streams.h"

#include <algorithm>

#include "heap.h"
#include "host.h"
#include "report.h"

namespace cuda_emu {
namespace {

Stream legacy;
std::vector<Stream*> streams{&legacy};

bool can_step(const Stream& stream) {
  if (stream.queue.empty()) return false;
  const Operation& head = stream.queue.front();
  return !head.wait || head.wait->reached >= head.until;
}

void step(Stream& stream) {
  const Operation operation = std::move(stream.queue.front());
  stream.queue.pop_front();
  const DeviceSection section;
  if (operation.run && (operation.always || !sticky_error)) operation.run();
}

std::vector<Stream*> ready_streams() {
  std::vector<Stream*> ready;
  for (Stream* stream : streams)
    if (can_step(*stream)) ready.push_back(stream);
  return ready;
}

void step_one_of(const std::vector<Stream*>& ready) {
  const size_t count = ready.size();
  step(*ready[config.order == kRandom    ? random_below(static_cast<unsigned>(count))
              : config.order == kReverse ? count - 1
                                         : 0]);
}

template <class Done>
int drain_until(Done&& done) {
  while (!done()) {
    const auto ready = ready_streams();
    if (ready.empty()) {
      report(kDivergence, cudaErrorLaunchTimeout, "streams wait for each other");
      break;
    }
    step_one_of(ready);
  }
  return sticky_error;
}

}  // namespace

Graph::~Graph() {
  const Lock lock(device_mutex);
  for (void* memory : freed) release(memory);
}

Stream* stream_of(cudaStream_t handle) {
  if (handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread) return &legacy;
  return reinterpret_cast<Stream*>(handle);
}

Stream* create_stream(unsigned flags, int priority) {
  Stream* stream = new Stream;
  stream->flags = flags;
  stream->blocking = !(flags & cudaStreamNonBlocking);
  stream->priority = std::clamp(priority, kGreatestPriority, kLeastPriority);
  streams.push_back(stream);
  return stream;
}

int destroy_stream(Stream* stream) {
  const auto found = std::find(streams.begin(), streams.end(), stream);
  if (stream == &legacy || found == streams.end()) return cudaErrorInvalidResourceHandle;
  drain_stream(stream);
  streams.erase(found);
  delete stream;
  return cudaSuccess;
}

std::vector<Stream*> members_of(const Capture& capture) {
  std::vector<Stream*> members;
  for (Stream* stream : streams)
    if (stream->capture.get() == &capture) members.push_back(stream);
  return members;
}

std::shared_ptr<Event>& shared_event(cudaEvent_t handle) {
  return *reinterpret_cast<std::shared_ptr<Event>*>(handle);
}
Event& event_of(cudaEvent_t handle) {
  return *shared_event(handle);
}

int enqueue(Stream* stream, Action action, bool always) {
  if (stream->capture) {
    if (stream->capture->invalid) return cudaErrorStreamCaptureInvalidated;
    stream->capture->graph->nodes.push_back(std::move(action));
    ++stream->seen[stream];
    return cudaSuccess;
  }
  if (stream == &legacy)
    for (Stream* other : streams)
      if (other->blocking && other != &legacy) drain_stream(other);
  stream->queue.push_back({std::move(action), always, nullptr, 0});
  if (!config.lazy_streams || stream == &legacy) return drain_stream(stream);
  return cudaSuccess;
}

int drain_stream(Stream* stream) {
  return drain_until([stream] { return stream->queue.empty(); });
}
int drain_all() {
  return drain_until(
      [] { return std::all_of(streams.begin(), streams.end(), [](auto* s) { return s->queue.empty(); }); });
}
int drain_event(const Event& event) {
  return drain_until([&] { return event.reached >= event.recorded; });
}
void step_any() {
  const auto ready = ready_streams();
  if (!ready.empty()) step_one_of(ready);
}
void drop_queued_work() {
  drain_all();
}

int refuse_in_capture(const Stream* stream) {
  bool refused = false;
  for (Stream* captured : streams) {
    const auto& capture = captured->capture;
    if (!capture) continue;
    const bool elsewhere =
        capture->mode == cudaStreamCaptureModeRelaxed ||
        (capture->mode == cudaStreamCaptureModeThreadLocal && capture->thread != std::this_thread::get_id());
    if (elsewhere && captured != stream) continue;
    capture->invalid = true;
    refused = true;
  }
  return refused ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

}  // namespace cuda_emu

using namespace cuda_emu;

namespace {

// Pools give back what they keep too much of whenever the host has waited for a stream or an event.
int waited(int error) {
  trim_pools();
  return error;
}

}  // namespace

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* handle, unsigned flags, int priority) {
  return call(kObject, __func__, [&] {
    *handle = reinterpret_cast<cudaStream_t>(create_stream(flags, priority));
    return cudaSuccess;
  });
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned flags) {
  return cudaStreamCreateWithPriority(handle, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* handle) {
  return cudaStreamCreateWithPriority(handle, 0, 0);
}
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  return query([&] { return destroy_stream(stream_of(handle)); });
}
cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
  return query([&] {
    *priority = stream_of(handle)->priority;
    return cudaSuccess;
  });
}
cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned* flags) {
  return query([&] {
    *flags = stream_of(handle)->flags;
    return cudaSuccess;
  });
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  return call(kWork, __func__, [&]() -> int {
    if (const int error = refuse_in_capture(stream_of(handle))) return error;
    return waited(drain_stream(stream_of(handle)));
  });
}
cudaError_t cudaDeviceSynchronize() {
  return call(kWork, __func__, [&]() -> int {
    if (const int error = refuse_in_capture()) return error;
    return waited(drain_all());
  });
}
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  return call(kWork, __func__, [&]() -> int {
    const Stream& stream = *stream_of(handle);
    if (const int error = refuse_in_capture(&stream)) return error;
    step_any();
    if (sticky_error) return sticky_error;
    return stream.queue.empty() ? cudaSuccess : cudaErrorNotReady;
  });
}
cudaError_t cudaLaunchHostFunc(cudaStream_t handle, cudaHostFn_t function, void* data) {
  return call(kObject, __func__, [&] { return enqueue(stream_of(handle), [=] { function(data); }); });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned) {
  return call(kObject, __func__, [&] {
    *handle = reinterpret_cast<cudaEvent_t>(new std::shared_ptr<Event>(std::make_shared<Event>()));
    return cudaSuccess;
  });
}
cudaError_t cudaEventCreate(cudaEvent_t* handle) {
  return cudaEventCreateWithFlags(handle, 0);
}
cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  return query([&] {
    delete &shared_event(handle);
    return cudaSuccess;
  });
}
cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  return call(kObject, __func__, [&]() -> int {
    const auto event = shared_event(handle);
    Stream* stream = stream_of(stream_handle);
    event->capture = stream->capture;
    event->seen = stream->seen;
    if (stream->capture) return cudaSuccess;
    const uint64_t number = ++event->recorded;
    const auto reach = [event, number] {
      event->reached = std::max(event->reached, number);
      event->at = std::chrono::steady_clock::now();
    };
    return enqueue(stream, reach, true);
  });
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t handle, cudaStream_t stream, unsigned) {
  return cudaEventRecord(handle, stream);
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned) {
  return call(kObject, __func__, [&]() -> int {
    const auto event = shared_event(event_handle);
    Stream* stream = stream_of(handle);
    if (const auto& capture = event->capture) {
      if (capture->ended) return cudaErrorCapturedEvent;
      if (stream->capture && stream->capture != capture) return cudaErrorStreamCaptureMerge;
      stream->capture = capture;
      for (const auto& [other, count] : event->seen) {
        unsigned& known = stream->seen[other];
        known = std::max(known, count);
      }
      return cudaSuccess;
    }
    if (stream->capture) {
      stream->capture->invalid = true;
      return cudaErrorStreamCaptureIsolation;
    }
    if (event->reached < event->recorded) stream->queue.push_back({nullptr, false, event, event->recorded});
    return cudaSuccess;
  });
}
cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return call(kWork, __func__, [&]() -> int {
    const Event& event = event_of(handle);
    if (event.capture) return cudaErrorCapturedEvent;
    if (const int error = refuse_in_capture()) return error;
    if (event.reached < event.recorded) step_any();
    if (sticky_error) return sticky_error;
    return event.reached >= event.recorded ? cudaSuccess : cudaErrorNotReady;
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return call(kWork, __func__, [&]() -> int {
    const Event& event = event_of(handle);
    if (event.capture) return cudaErrorCapturedEvent;
    if (const int error = refuse_in_capture()) return error;
    return waited(drain_event(event));
  });
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return query([&]() -> int {
    const Event &from = event_of(start), &to = event_of(end);
    if (!from.recorded || !to.recorded) return cudaErrorInvalidResourceHandle;
    if (from.reached < from.recorded || to.reached < to.recorded) return cudaErrorNotReady;
    *milliseconds = std::chrono::duration<float, std::milli>(to.at - from.at).count();
    return cudaSuccess;
  });
}
