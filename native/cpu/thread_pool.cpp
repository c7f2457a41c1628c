#include "cpu/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace birkhoff::cpu {
namespace {

// state: generation in the high half, then an "open" bit, then the number of workers inside the current job. Workers
// join an open job by adding one; the caller closes it when no work is left and waits only for those inside, so that a
// worker the system has not scheduled costs nothing.
constexpr uint64_t kOpen = uint64_t{1} << 31;
constexpr uint64_t kInside = kOpen - 1;
constexpr uint64_t kGeneration = uint64_t{1} << 32;
constexpr int kSpins = 4000;  // about 50 us: the gap between two queued kernels, not an idle queue

void relax() {
#ifdef __x86_64__
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");  // "yield" is a no-op on most cores
#endif
}

class Pool {
 public:
  ~Pool() { resize(1); }

  int size() const { return size_.load(std::memory_order_relaxed); }

  void resize(int count) {
    stopping_ = true;
    state_.fetch_add(kGeneration);
    wake();
    for (auto& worker : workers_) worker.join();
    workers_.clear();
    stopping_ = false;
    for (int i = 1; i < count; ++i) workers_.emplace_back([this] { work(); });
    size_ = count;
  }

  void run(int64_t count, void (*body)(void*, int64_t), void* context) {
    if (count <= 0) return;
    body_ = body;
    context_ = context;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    error_ = nullptr;
    if (count > 1 && !workers_.empty()) {
      state_.store((state_.load(std::memory_order_relaxed) & ~(kOpen | kInside)) + kGeneration + kOpen);
      wake();
    }
    take_work();
    state_.fetch_and(~kOpen);
    for (int spin = 0; state_.load(std::memory_order_acquire) & kInside; ++spin) {
      if (spin < kSpins)
        relax();
      else
        std::this_thread::yield();
    }
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void take_work() noexcept {
    for (;;) {
      const int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
      if (i >= count_) return;
      try {
        body_(context_, i);
      } catch (...) {
        std::lock_guard lock(error_mutex_);
        if (!error_ || i < error_index_) {
          error_ = std::current_exception();
          error_index_ = i;
        }
      }
    }
  }

  // Not std::atomic::wait, which GCC has from version 11: releases are built with 10, for old systems. A worker counts
  // itself before it looks at the state again, the caller changes the state before it looks at the count: one sees the
  // other.
  void sleep(uint64_t state) {
    std::unique_lock lock(sleep_mutex_);
    sleeping_.fetch_add(1);
    while (state_.load() == state) awake_.wait(lock);
    sleeping_.fetch_sub(1);
  }
  void wake() {
    if (sleeping_.load() == 0) return;
    { std::lock_guard lock(sleep_mutex_); }
    awake_.notify_all();
  }

  void work() noexcept {
    uint64_t joined = 0;  // generation of the last job joined: a job is joined once
    for (;;) {
      uint64_t state = state_.load(std::memory_order_acquire);
      const auto idle = [&] { return !(state & kOpen) || state / kGeneration == joined; };
      for (int spin = 0; spin < kSpins && idle() && !stopping_; ++spin) {
        relax();
        state = state_.load(std::memory_order_acquire);
      }
      if (stopping_) return;
      if (idle()) {
        sleep(state);
        continue;
      }
      if (!state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) continue;
      joined = state / kGeneration;
      take_work();
      state_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  std::atomic<uint64_t> state_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<int> size_{1};
  std::atomic<int> sleeping_{0};
  std::mutex sleep_mutex_;
  std::condition_variable awake_;
  std::atomic<int64_t> next_{0};
  void (*body_)(void*, int64_t) = nullptr;
  void* context_ = nullptr;
  int64_t count_ = 0;
  std::mutex error_mutex_;
  std::exception_ptr error_;
  int64_t error_index_ = 0;
  std::vector<std::thread> workers_;
};

std::atomic<Pool*> pool{nullptr};

Pool& current() {
  Pool* existing = pool.load();
  if (!existing) {
    existing = new Pool;
    existing->resize(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
    pool = existing;
  }
  return *existing;
}

}  // namespace

void parallel_for(int64_t count, void (*body)(void*, int64_t), void* context) {
  current().run(count, body, context);
}
void set_threads(int count) {
  current().resize(count);
}
int threads() {
  const Pool* existing = pool.load();
  return existing ? existing->size() : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
}
void stop_threads() {
  delete pool.exchange(nullptr);
}

}  // namespace birkhoff::cpu
