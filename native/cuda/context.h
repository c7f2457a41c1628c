// One GPU in use: its two streams, memory pool, pinned staging, and the thread that waits for reads.
#pragma once
#include <cuda_runtime.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/stream.h"
#include "cuda/index_errors.h"

namespace birkhoff::cuda {

class Context {
 public:
  explicit Context(int index);  // throws Error(kDeviceError)
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  // Makes this the context of the calling thread, which from now on may launch kernels.
  void bind();

  // Throws where error is not cudaSuccess: Error(kOutOfMemoryError) for allocation, else Error(kDeviceError). An error
  // that CUDA will return for ever after also poisons the context.
  void check(cudaError_t error, const char* what);
  std::exception_ptr failure();
  static void heal_all();  // executor builds, between tests: forgets the failures of every context

  void* acquire(size_t bytes);
  void release(void* data) noexcept;
  void trim();  // gives the system what was released and the memory that reads keep; the compute stream is drained
  void copy_from_host(void* target, const void* source, size_t bytes);
  void copy_to_host(void* target, const void* source, size_t bytes, Completion done);
  std::function<void()> record(std::shared_ptr<const Work> work);
  void synchronize();
  void finish() noexcept;  // waits for the device, whatever it says: its memory goes next
  void stop_reader();
  std::shared_ptr<void> record_event();
  double elapsed_ms(const void* from, const void* to);
  void trace(std::function<void(const char*)> launched) { launched_ = std::move(launched); }
  void note_launch(const void* kernel);  // behind each one

  const int index;
  int multiprocessors = 0;
  int max_shared = 0;  // bytes a block may ask for
  cudaStream_t compute = nullptr;
  cudaStream_t priority = nullptr;  // copies of results to the host, beside the next kernels
  void* blas = nullptr;             // of cublas.cpp, where cuBLAS was found
  IndexErrors index_errors;

 private:
  struct Pinned {
    void* data;
    size_t bytes;
    cudaEvent_t ready;  // recorded behind the last use
  };
  struct Read {
    Pinned staged;
    void* target;
    size_t bytes;
    bool index_errors;  // their words come before the bytes
    Completion done;
  };
  Pinned pinned(size_t bytes);
  void recycle(Pinned buffer);
  void free_pinned(const Pinned& buffer) noexcept;
  void read_loop() noexcept;

  std::atomic<bool> poisoned_ = false;
  std::mutex failure_mutex_;
  std::exception_ptr failure_;
  int failed_in_ = 0;

  cudaStream_t memory_ = nullptr;  // allocations: never the stream that a graph is recorded from
  cudaMemPool_t snapshots_ = nullptr;
  // Dispatch thread only.
  std::function<void(const char*)> launched_;  // of a trace, else empty

  std::mutex pinned_mutex_;
  std::deque<Pinned> pinned_;  // kept for later copies, the longest unused first; the last copy may be under way
  size_t pinned_bytes_ = 0;    // of all of these

  std::mutex read_mutex_;
  std::condition_variable read_ready_;
  std::deque<Read> reads_;
  bool stopping_ = false;
  std::thread reader_;
};

// A memory pool of the device. Creates no CUDA context.
cudaError_t make_pool(int device, cudaMemPool_t* pool);

// The context of the calling thread: inside a kernel's launcher, the device it was called on.
Context& current();

}  // namespace birkhoff::cuda
