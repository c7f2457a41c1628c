#include "core/stream.h"

#include <utility>

namespace birkhoff {

DispatchStream::DispatchStream(std::function<void()> start, size_t capacity)
    : capacity_(capacity), thread_([this, start = std::move(start)] { run(start); }) {}

void DispatchStream::stop() {
  std::deque<std::function<void()>> dropped;  // destroyed outside the lock: work may own things that submit
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped.swap(queue_);
  }
  not_empty_.notify_all();
  not_full_.notify_all();
  progress_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void DispatchStream::submit(std::function<void()> work) {
  std::unique_lock lock(mutex_);
  not_full_.wait(lock, [this] { return queue_.size() < capacity_ || stopping_; });
  if (stopping_) return;
  queue_.push_back(std::move(work));
  ++submitted_;
  const bool wake = !busy_ && queue_.size() == 1;
  lock.unlock();
  if (wake) not_empty_.notify_one();
}

void DispatchStream::drain() {
  // Not until the queue is empty: other environments may go on filling it.
  std::unique_lock lock(mutex_);
  ++drains_;
  progress_.wait(lock, [this, target = submitted_] { return finished_ >= target || stopping_; });
  --drains_;
}

std::exception_ptr DispatchStream::take_error() {
  return std::exchange(error_, nullptr);
}

void DispatchStream::run(const std::function<void()>& start) noexcept {
  try {
    if (start) start();
  } catch (...) {
    error_ = std::current_exception();
  }
  std::unique_lock lock(mutex_);
  for (;;) {
    if (queue_.empty()) busy_ = false;
    not_empty_.wait(lock, [this] { return !queue_.empty() || stopping_; });
    if (stopping_) return;
    busy_ = true;
    auto work = std::move(queue_.front());
    queue_.pop_front();
    if (queue_.size() == capacity_ - 1) not_full_.notify_one();
    lock.unlock();
    try {
      work();
    } catch (...) {
      // The first error is the cause; later ones are usually its consequences.
      if (!error_) error_ = std::current_exception();
    }
    work = nullptr;
    lock.lock();
    ++finished_;
    if (drains_ > 0) progress_.notify_all();
  }
}

}  // namespace birkhoff
