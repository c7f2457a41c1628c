// A device is an in-order stream: work is queued and runs later, in the order it came. Only reads wait.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace birkhoff {

using Work = std::vector<std::function<void()>>;
// Called once, from any thread, when what it belongs to is done: with its error, or null.
using Completion = std::function<void(std::exception_ptr)>;

class Stream {
 public:
  virtual ~Stream() = default;
  // Queues work. Blocks only while the queue is full (back-pressure for loops that never read).
  virtual void submit(std::function<void()> work) = 0;
  // Waits until everything queued so far is done.
  virtual void drain() = 0;
  // The first error of work done so far, or null; cleared by the call. Call from queued work.
  virtual std::exception_ptr take_error() = 0;
  // Why the device can never be used again, or null. Any thread.
  virtual std::exception_ptr failure() { return nullptr; }
  // Drops queued work, waits for the piece that runs; later submissions are ignored. Idempotent.
  virtual void stop() = 0;
};

// One dispatch thread that runs the queue; the kernels it calls use the shared thread pool.
class DispatchStream final : public Stream {
 public:
  // start: run by the dispatch thread before anything else.
  explicit DispatchStream(std::function<void()> start = nullptr, size_t capacity = 4096);
  ~DispatchStream() override { stop(); }
  void submit(std::function<void()> work) override;
  void drain() override;
  std::exception_ptr take_error() override;
  void stop() override;

 private:
  void run(const std::function<void()>& start) noexcept;

  const size_t capacity_;
  std::mutex mutex_;
  std::condition_variable not_empty_, not_full_, progress_;
  std::deque<std::function<void()>> queue_;
  uint64_t submitted_ = 0, finished_ = 0;  // pieces of work, ever
  int drains_ = 0;                         // callers inside drain
  bool busy_ = false;
  bool stopping_ = false;
  std::exception_ptr error_;  // dispatch thread only
  std::thread thread_;
};

}  // namespace birkhoff
