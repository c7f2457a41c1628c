#include "core/graph.h"

#include <algorithm>
#include <future>

#include "core/error.h"

namespace birkhoff {
namespace {

std::unique_ptr<Recording>& recording() {
  static thread_local std::unique_ptr<Recording> current;
  return current;
}

}  // namespace

Recording* Recording::on(const Device& device) {
  Recording* const current = recording().get();
  return current && &current->graph_->device_ == &device ? current : nullptr;
}

void Recording::begin(std::shared_ptr<Runtime> runtime, Device& device) {
  if (recording()) throw Error(kDeviceError, "beginCapture: a graph is being recorded already");
  if (const std::exception_ptr failure = device.stream->failure()) std::rethrow_exception(failure);
  // What eager work has left cached would be held beside the graph's own memory.
  device.allocator.trim();
  recording().reset(new Recording(std::unique_ptr<Graph>(new Graph(std::move(runtime), device))));
}

void Recording::cancel(Device& device) noexcept {
  if (on(device)) recording().reset();
}

std::unique_ptr<Graph> Recording::finish(Device& device) {
  if (!on(device)) throw Error(kDeviceError, "endCapture: no graph is being recorded on " + device.name);
  const std::unique_ptr<Recording> done = std::move(recording());
  using Replay = std::function<void()>;
  const auto recorded = std::make_shared<std::promise<Replay>>();
  device.submit([&device, recorded, work = std::make_shared<const Work>(std::move(done->work_))] {
    try {
      recorded->set_value(device.backend.record(device.backend.context, work));
    } catch (...) {
      recorded->set_exception(std::current_exception());
    }
  });
  done->graph_->replay_ = std::make_shared<const Replay>(recorded->get_future().get());
  return std::move(done->graph_);
}

Recording::Outside::Outside() : paused_(std::move(recording())) {}
Recording::Outside::~Outside() {
  recording() = std::move(paused_);
}

void Recording::retain(const std::shared_ptr<Storage>& storage) {
  auto& operands = graph_->operands_;
  if (storage->pool != pool()->id && std::find(operands.begin(), operands.end(), storage) == operands.end())
    operands.push_back(storage);
}

void Graph::launch() {
  if (Recording::on(device_))
    throw Error(kDeviceError, "launch: a graph cannot be launched while one is recorded on " + device_.name);
  device_.submit([replay = replay_] { (*replay)(); });
}

// In the order of the stream: launches that are queued still find their memory, later work may have it.
Graph::~Graph() {
  if (replay_) device_.stream->submit([replay = std::move(replay_)] {});
  device_.allocator.dissolve(pool_);
}

}  // namespace birkhoff
