// A graph: work recorded once and launched many times as one piece. On a GPU that is a CUDA graph, on the CPU the list
// of queued functions.
//
// Between begin and finish, what the recording thread queues on the device is kept instead of run, and what it
// allocates comes from a pool that the graph keeps: a tensor made while recording has one address for the life of the
// graph, and each launch writes it anew. Tensors from before are read where they are; the graph keeps them alive.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "core/device.h"

namespace birkhoff {

class Graph {
 public:
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  // Queues the work once more. Throws Error(kDeviceError) while a graph is recorded on the device.
  void launch();

 private:
  friend class Recording;
  explicit Graph(std::shared_ptr<Runtime> runtime, Device& device) : runtime_(std::move(runtime)), device_(device) {}

  const std::shared_ptr<Runtime> runtime_;
  Device& device_;
  Allocator::Pool pool_;
  std::vector<std::shared_ptr<Storage>> operands_;  // from before the recording
  std::shared_ptr<const std::function<void()>> replay_;
};

// A thread records at most one graph at a time.
class Recording {
 public:
  static void begin(std::shared_ptr<Runtime> runtime, Device& device);  // throws Error(kDeviceError)
  static std::unique_ptr<Graph> finish(Device& device);  // waits for the device; nothing is recorded any more also
                                                         // where it throws
  static void cancel(Device& device) noexcept;
  // Of the calling thread on this device, or null.
  static Recording* on(const Device& device);

  // While one lives, this thread works as if nothing were recorded. For uploads from the host: their data never
  // changes, so they run once and the graph reads the result as it reads tensors from before.
  class Outside {
   public:
    Outside();
    ~Outside();

   private:
    std::unique_ptr<Recording> paused_;
  };

  Allocator::Pool* pool() { return &graph_->pool_; }
  void add(std::function<void()> work) { work_.push_back(std::move(work)); }
  void retain(const std::shared_ptr<Storage>& storage);

 private:
  explicit Recording(std::unique_ptr<Graph> graph) : graph_(std::move(graph)) {}
  std::unique_ptr<Graph> graph_;
  Work work_;
};

}  // namespace birkhoff
