// A device: kernels, memory and an in-order stream. A backend is a plain table of function pointers.
#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/allocator.h"
#include "core/stream.h"
#include "ops/kernels.h"

namespace birkhoff {

struct Backend {
  Kernels kernels;
  bool gpu;       // which of an op's scratch sizes holds
  void* context;  // first argument of the functions below
  MemoryFunctions memory;
  // The following are called by queued work.
  // source may go once it returns. Never while a graph is recorded.
  void (*copy_from_host)(void* context, void* target, const void* source, size_t bytes);
  // target lives until done is called.
  void (*copy_to_host)(void* context, void* target, const void* source, size_t bytes, Completion done);
  // Turns work into something that does the same again at each call, without running it. May fail.
  std::function<void()> (*record)(void* context, std::shared_ptr<const Work> work);
  // An event is a moment that the stream passes.
  std::shared_ptr<void> (*record_event)(void* context);
  double (*elapsed_ms)(void* context, const void* from, const void* to);  // waits for both
  // From now on called behind each kernel that is launched, with its name; an empty function ends that.
  void (*trace)(void* context, std::function<void(const char* kernel)> launched);
};

// A moment of a stream, for measurements.
struct Mark {
  std::string name;
  std::shared_ptr<void> event;
};

class Device {
 public:
  Device(std::string device_name, const Backend& device_backend, std::unique_ptr<Stream> device_stream)
      : name(std::move(device_name)),
        backend(device_backend),
        stream(std::move(device_stream)),
        allocator(device_backend.memory, *stream) {}

  // Queues work, or adds it to the graph that this thread is recording. Throws what made the device unusable.
  void submit(std::function<void()> work);
  // Queued work: notes the moment.
  void mark(std::string mark_name) { marks.push_back({std::move(mark_name), backend.record_event(backend.context)}); }
  // Throws Error(kDeviceError) while this thread records a graph; what: "a tensor cannot be read", say.
  void refuse_recording(const char* what) const;
  // Where this thread's allocations come from, for Storage.
  Allocator::Pool* pool() const;
  // Queues a copy from host memory that the device then owns.
  void submit_copy(void* target, std::vector<char> source);

  const std::string name;
  const Backend backend;
  std::unique_ptr<Stream> stream;
  Allocator allocator;
  std::vector<Mark> marks;  // queued work only
};

struct DeviceDescription {
  std::string name, description, reason;  // reason: why it is not available, else empty
};

// A device that may be opened: which one, and how.
struct DeviceEntry {
  DeviceDescription description;
  std::function<std::unique_ptr<Device>()> open;  // throws Error(kDeviceError)
};

// All of the process's devices, each opened when it is first asked for. Shared by the environments (main thread,
// workers) of the process; the last one to go stops the threads, or exit does: a process may leave while work is
// queued. There are no statics with destructors.
class Runtime {
 public:
  static std::shared_ptr<Runtime> get();
  ~Runtime();
  void stop();  // drops queued work, waits for the piece that runs, ends all threads; idempotent
  Device& device(const std::string& name);  // throws Error(kDeviceError); looks for GPUs unless it is "cpu"
  // The first call looks for GPUs, which starts their driver: tenths of a second to seconds.
  const std::vector<DeviceEntry>& entries();
  Device& cpu() { return *cpu_; }
  void set_budget(int64_t bytes);  // of every device, also of those opened later; below 0: none
  template <class F>
  void each(F&& visit) {  // open devices
    std::lock_guard lock(mutex_);
    for (auto& device : devices_) visit(*device);
  }

 private:
  Runtime();
  std::mutex mutex_;                              // of the list of open devices
  std::vector<std::unique_ptr<Device>> devices_;  // open
  Device* cpu_ = nullptr;                         // the first of them
  std::once_flag listed_;
  std::vector<DeviceEntry> entries_;  // complete once listed_
  int64_t budget_ = -1;
};

// Reference-counted memory of one device.
class Storage {
 public:
  Storage(std::shared_ptr<Runtime> runtime, Device& device, int64_t bytes)
      : device(device),
        bytes(bytes),
        pool(device.pool() ? device.pool()->id : 0),
        data(static_cast<char*>(device.allocator.allocate(bytes, device.pool()))),
        runtime_(std::move(runtime)) {}
  ~Storage() { device.allocator.free(data); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device& device;
  const int64_t bytes;
  const uint64_t pool;  // id of that of the graph that was being recorded, or 0
  char* const data;

 private:
  std::shared_ptr<Runtime> runtime_;  // devices outlive their memory
};

}  // namespace birkhoff
