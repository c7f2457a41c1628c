// Indices that a kernel finds out of range. A kernel cannot throw, and nothing waits for it, so it leaves the smallest
// position and its value in a word of device memory. Every read of a tensor takes the words along in the order of the
// stream and clears them: it fails where an earlier kernel has left something, and later reads do not.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <mutex>
#include <vector>

namespace birkhoff::cuda {

class Context;

class IndexErrors {
 public:
  using Word = unsigned long long;  // position << 32 | value, or all ones
  static constexpr size_t kWords = 64, kBytes = kWords * sizeof(Word);

  void open(Context& context);
  void close() noexcept;

  // The word of one op's argument whose values must be below count. op and argument: literals. Dispatch thread.
  Word* word(const char* op, const char* argument, int64_t count);
  bool used() const { return !sites_.empty(); }
  // Queues a copy of the words to target (device or pinned memory), then clears them.
  cudaError_t take(void* target, cudaStream_t stream);
  // Throws Error(kRangeError, "embedding: indices[12] is 70000, want 0 to 49") if a word of the copy is set. Any
  // thread.
  void raise(const void* copy);

 private:
  struct Site {
    const char *op, *argument;
    int64_t count;
  };
  Word* words_ = nullptr;
  std::mutex mutex_;
  std::vector<Site> sites_;
};

}  // namespace birkhoff::cuda
