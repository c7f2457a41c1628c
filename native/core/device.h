// A device: kernels, memory and an in-order stream. A backend is a plain table of function pointers.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/allocator.h"
#include "core/stream.h"
#include "ops/kernels.h"

namespace birkhoff {

struct Backend {
  Kernels kernels;
  MemoryFunctions memory;
  // Queued on the stream by the caller; the host side owns its buffer until the copy has run.
  void (*copy_from_host)(void* target, const void* source, size_t bytes);
  void (*copy_to_host)(void* target, const void* source, size_t bytes);
};

class Device {
 public:
  Device(std::string device_name, const Backend& device_backend, std::unique_ptr<Stream> device_stream)
      : name(std::move(device_name)),
        backend(device_backend),
        stream(std::move(device_stream)),
        allocator(device_backend.memory, *stream) {}

  const std::string name;
  const Backend backend;
  std::unique_ptr<Stream> stream;
  Allocator allocator;
};

struct DeviceDescription {
  std::string name, description, reason;  // reason: why it is not available, else empty
};

// All of the process's devices. Shared by the environments (main thread, workers) of the process; the last one to go
// stops the threads, or exit does: a process may leave while work is queued. There are no statics with destructors.
class Runtime {
 public:
  static std::shared_ptr<Runtime> get();
  ~Runtime();
  void stop();  // drops queued work, waits for the piece that runs, ends all threads; idempotent
  Device& device(const std::string& name);  // throws Error(kDeviceError)
  const std::vector<DeviceDescription>& descriptions() const { return descriptions_; }
  Device& cpu() { return *devices_.front(); }
  template <class F>
  void each(F&& visit) {
    for (auto& device : devices_) visit(*device);
  }

 private:
  Runtime();
  std::vector<std::unique_ptr<Device>> devices_;
  std::vector<DeviceDescription> descriptions_;
};

// Reference-counted memory of one device.
class Storage {
 public:
  Storage(std::shared_ptr<Runtime> runtime, Device& device, int64_t bytes)
      : device(device),
        bytes(bytes),
        data(static_cast<char*>(device.allocator.allocate(bytes))),
        runtime_(std::move(runtime)) {}
  ~Storage() { device.allocator.free(data); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device& device;
  const int64_t bytes;
  char* const data;

 private:
  std::shared_ptr<Runtime> runtime_;  // devices outlive their memory
};

}  // namespace birkhoff
