// Reads never stall the GPU: the bytes are first copied within the device on the compute stream, in order, and travel
// to pinned memory on the other stream; a thread of its own waits for them. What they keep of either memory is bounded.
#include "cuda/context.h"

#include <cstring>

#include "core/error.h"
#include "cuda/backend.h"
#include "cuda/gemm.h"

namespace birkhoff::cuda {
namespace {

thread_local Context* bound = nullptr;
std::atomic<int> generation = 0;  // failures of earlier ones are forgotten

constexpr size_t kSmallestStaging = size_t{64} << 10;
// Memory is kept for the next read up to these bytes, in all: asking for it anew stalls a read, but a model that was
// saved once must not be held a second time.
constexpr size_t kStagingKept = size_t{64} << 20;
constexpr uint64_t kSnapshotsKept = uint64_t{64} << 20;

// After these every further call of the process on that device fails too (CUDA runtime API, "cudaError").
bool is_sticky(cudaError_t error) {
  constexpr int kContained = 226, kExternalDevice = 911;  // names that CUDA 12.0 does not have
  if (error == kContained || error == kExternalDevice) return true;
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

}  // namespace

Context& current() {
  return *bound;
}

cudaError_t make_pool(int device, cudaMemPool_t* pool) {
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.location = {cudaMemLocationTypeDevice, device};
  return cudaMemPoolCreate(pool, &properties);
}

Context::Context(int index) : index(index) {
  try {
    check(cudaSetDevice(index), "cudaSetDevice");
    check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, index), "cudaDeviceGetAttribute");
    check(cudaDeviceGetAttribute(&max_shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, index),
          "cudaDeviceGetAttribute");
    int least = 0, greatest = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
    check(cudaStreamCreateWithPriority(&compute, cudaStreamNonBlocking, least), "cudaStreamCreateWithPriority");
    check(cudaStreamCreateWithPriority(&priority, cudaStreamNonBlocking, greatest), "cudaStreamCreateWithPriority");
    check(cudaStreamCreateWithPriority(&memory_, cudaStreamNonBlocking, least), "cudaStreamCreateWithPriority");
    // Snapshots of reads come from a pool that keeps some of what it has. The allocator's segments come from the
    // default pool, which gives back to the system what the allocator frees.
    check(make_pool(index, &snapshots_), "cudaMemPoolCreate");
    uint64_t keep = kSnapshotsKept;
    check(cudaMemPoolSetAttribute(snapshots_, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute");
    // A snapshot must not wait for the copy of an older one to the host, as it would in that one's memory.
    int internal = 0;
    check(cudaMemPoolSetAttribute(snapshots_, cudaMemPoolReuseAllowInternalDependencies, &internal),
          "cudaMemPoolSetAttribute");
    open_gemm(*this);
    index_errors.open(*this);
    reader_ = std::thread([this] { read_loop(); });
  } catch (...) {
    // The destructor does not run.
    index_errors.close();
    close_gemm(*this);
    for (cudaStream_t stream : {compute, priority, memory_})
      if (stream) cudaStreamDestroy(stream);
    if (snapshots_) cudaMemPoolDestroy(snapshots_);
    throw;
  }
}

// Errors are not looked at: the process may be ending, or the context poisoned.
Context::~Context() {
  stop_reader();
  cudaSetDevice(index);
  index_errors.close();
  close_gemm(*this);
  for (const Pinned& buffer : pinned_) free_pinned(buffer);
  for (cudaStream_t stream : {compute, priority, memory_}) cudaStreamDestroy(stream);
  cudaMemPoolDestroy(snapshots_);
}

void Context::bind() {
  bound = this;
  check(cudaSetDevice(index), "cudaSetDevice");
}

void Context::check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // it is remembered otherwise
  std::string message =
      "cuda: " + std::string(what) + " failed: " + cudaGetErrorName(error) + " (" + cudaGetErrorString(error) + ")";
  const bool sticky = is_sticky(error);
  if (sticky) message += "; the device cannot be used again in this process, others can";
  if (emulator() && emulator()->last_report()[0]) message += std::string(": ") + emulator()->last_report();
  const Error typed(error == cudaErrorMemoryAllocation ? kOutOfMemoryError : kDeviceError, message);
  if (sticky) {
    std::lock_guard lock(failure_mutex_);
    if (!failure_ || failed_in_ != generation) failure_ = std::make_exception_ptr(typed);
    failed_in_ = generation;
    poisoned_ = true;
  }
  throw typed;
}

std::exception_ptr Context::failure() {
  if (!poisoned_) return nullptr;
  std::lock_guard lock(failure_mutex_);
  if (failed_in_ == generation) return failure_;
  failure_ = nullptr;
  poisoned_ = false;
  return nullptr;
}

void Context::heal_all() {
  ++generation;
}

// Called from any thread. The stream is waited for, so the memory can be used from every stream.
void* Context::acquire(size_t bytes) {
  cudaSetDevice(index);  // no other call of this thread depends on which it is
  void* data = nullptr;
  cudaError_t error = cudaMallocAsync(&data, bytes, memory_);
  if (error == cudaSuccess) error = cudaStreamSynchronize(memory_);
  if (error == cudaSuccess) return data;
  cudaGetLastError();
  if (error == cudaErrorMemoryAllocation) return nullptr;
  check(error, "cudaMallocAsync");
  return nullptr;
}

// The allocator has drained the compute stream, but for blocks allocated one by one, which the dispatch thread frees.
void Context::release(void* data) noexcept {
  if (bound == this) cudaStreamSynchronize(compute);
  cudaFreeAsync(data, memory_);
}

// Called from any thread. Freed memory is the pool's until a stream that freed it is waited for.
void Context::trim() {
  check(cudaSetDevice(index), "cudaSetDevice");
  check(cudaStreamSynchronize(memory_), "cudaStreamSynchronize");
  check(cudaStreamSynchronize(priority), "cudaStreamSynchronize");
  check(cudaMemPoolTrimTo(snapshots_, 0), "cudaMemPoolTrimTo");
}

Context::Pinned Context::pinned(size_t bytes) {
  {
    std::lock_guard lock(pinned_mutex_);
    for (size_t i = 0; i < pinned_.size(); ++i) {
      if (pinned_[i].bytes < bytes) continue;
      if (cudaEventQuery(pinned_[i].ready) != cudaSuccess) {
        cudaGetLastError();  // "not ready" is remembered as an error
        continue;
      }
      const Pinned buffer = pinned_[i];
      pinned_.erase(pinned_.begin() + static_cast<std::ptrdiff_t>(i));  // the others stay in order
      pinned_bytes_ -= buffer.bytes;
      return buffer;
    }
  }
  Pinned buffer{nullptr, kSmallestStaging, nullptr};
  while (buffer.bytes < bytes) buffer.bytes *= 2;
  check(cudaEventCreateWithFlags(&buffer.ready, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  const cudaError_t error = cudaMallocHost(&buffer.data, buffer.bytes);
  if (error != cudaSuccess) cudaEventDestroy(buffer.ready);
  check(error, "cudaMallocHost");
  return buffer;
}

void Context::recycle(Pinned buffer) {
  std::lock_guard lock(pinned_mutex_);
  pinned_.push_back(buffer);
  pinned_bytes_ += buffer.bytes;
  while (pinned_bytes_ > (poisoned_ ? 0 : kStagingKept)) {
    pinned_bytes_ -= pinned_.front().bytes;
    free_pinned(pinned_.front());
    pinned_.pop_front();
  }
}

void Context::free_pinned(const Pinned& buffer) noexcept {
  cudaEventSynchronize(buffer.ready);
  cudaFreeHost(buffer.data);
  cudaEventDestroy(buffer.ready);
}

void Context::copy_from_host(void* target, const void* source, size_t bytes) {
  const Pinned staged = pinned(bytes);
  std::memcpy(staged.data, source, bytes);
  cudaError_t error = cudaMemcpyAsync(target, staged.data, bytes, cudaMemcpyHostToDevice, compute);
  if (error == cudaSuccess) error = cudaEventRecord(staged.ready, compute);
  recycle(staged);
  check(error, "copy to the device");
}

// No bytes: only waits for what the device has to do.
void Context::copy_to_host(void* target, const void* source, size_t bytes, Completion done) {
  const bool words = index_errors.used();
  const size_t before = words ? IndexErrors::kBytes : 0, total = before + bytes;
  const Pinned staged = pinned(total);
  char* snapshot = nullptr;
  cudaError_t error =
      total ? cudaMallocFromPoolAsync(reinterpret_cast<void**>(&snapshot), total, snapshots_, compute) : cudaSuccess;
  if (error == cudaSuccess) {
    if (words) error = index_errors.take(snapshot, compute);
    if (error == cudaSuccess && bytes)
      error = cudaMemcpyAsync(snapshot + before, source, bytes, cudaMemcpyDeviceToDevice, compute);
    if (error == cudaSuccess) error = cudaEventRecord(staged.ready, compute);
    if (error == cudaSuccess) error = cudaStreamWaitEvent(priority, staged.ready, 0);
    if (error == cudaSuccess && total)
      error = cudaMemcpyAsync(staged.data, snapshot, total, cudaMemcpyDeviceToHost, priority);
    const cudaError_t freed = total ? cudaFreeAsync(snapshot, priority) : cudaSuccess;
    if (error == cudaSuccess) error = freed;
    if (error == cudaSuccess) error = cudaEventRecord(staged.ready, priority);
  } else if (error == cudaErrorMemoryAllocation) {
    // No room for the snapshot: the compute stream does the whole way.
    cudaGetLastError();
    error = words ? index_errors.take(staged.data, compute) : cudaSuccess;
    if (error == cudaSuccess && bytes)
      error = cudaMemcpyAsync(static_cast<char*>(staged.data) + before, source, bytes, cudaMemcpyDeviceToHost, compute);
    if (error == cudaSuccess) error = cudaEventRecord(staged.ready, compute);
  }
  if (error != cudaSuccess) {
    recycle(staged);
    check(error, "copy to the host");
  }
  {
    std::lock_guard lock(read_mutex_);
    reads_.push_back({staged, target, bytes, words, std::move(done)});
  }
  read_ready_.notify_one();
}

void Context::read_loop() noexcept {
  cudaSetDevice(index);
  std::unique_lock lock(read_mutex_);
  for (;;) {
    read_ready_.wait(lock, [this] { return !reads_.empty() || stopping_; });
    if (reads_.empty()) return;
    Read read = std::move(reads_.front());
    reads_.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      check(cudaEventSynchronize(read.staged.ready), "waiting for the device");
      const char* data = static_cast<const char*>(read.staged.data);
      if (read.index_errors) index_errors.raise(data);
      if (read.bytes) std::memcpy(read.target, data + (read.index_errors ? IndexErrors::kBytes : 0), read.bytes);
    } catch (...) {
      error = std::current_exception();
    }
    recycle(read.staged);
    read.done(error);
    read.done = nullptr;
    lock.lock();
  }
}

// What has been asked for is still delivered.
void Context::stop_reader() {
  {
    std::lock_guard lock(read_mutex_);
    stopping_ = true;
  }
  read_ready_.notify_all();
  if (reader_.joinable()) reader_.join();
}

void Context::finish() noexcept {
  cudaStreamSynchronize(compute);
}

void Context::synchronize() {
  check(cudaStreamSynchronize(compute), "cudaStreamSynchronize");
}

namespace {

struct Graph {
  cudaStream_t stream;
  cudaGraphExec_t executable = nullptr;
  ~Graph() {
    if (!executable) return;
    cudaStreamSynchronize(stream);  // launches may be under way
    cudaGraphExecDestroy(executable);
  }
};

}  // namespace

std::function<void()> Context::record(std::shared_ptr<const Work> work) {
  auto graph = std::make_shared<Graph>(compute);
  check(cudaStreamBeginCapture(compute, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  std::exception_ptr failure;
  try {
    for (const auto& piece : *work) piece();
  } catch (...) {
    failure = std::current_exception();
  }
  cudaGraph_t recorded = nullptr;
  cudaError_t error = cudaStreamEndCapture(compute, &recorded);
  if (error == cudaSuccess && !failure) error = cudaGraphInstantiate(&graph->executable, recorded, 0);
  if (recorded) cudaGraphDestroy(recorded);
  if (failure) {
    cudaGetLastError();  // an invalidated capture, which the failure explains
    std::rethrow_exception(failure);
  }
  check(error, "recording a graph");
  return [this, graph] { check(cudaGraphLaunch(graph->executable, compute), "cudaGraphLaunch"); };
}

}  // namespace birkhoff::cuda
