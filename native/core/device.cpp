#include "core/device.h"

#include "core/error.h"
#include "cpu/backend.h"
#include "cpu/thread_pool.h"

namespace birkhoff {

std::shared_ptr<Runtime> Runtime::get() {
  static std::mutex* mutex = new std::mutex;  // leaked: environments may end in any order
  static auto* current = new std::weak_ptr<Runtime>;
  std::lock_guard lock(*mutex);
  std::shared_ptr<Runtime> runtime = current->lock();
  if (!runtime) {
    runtime.reset(new Runtime);
    *current = runtime;
  }
  return runtime;
}

Runtime::Runtime() {
  devices_.push_back(std::make_unique<Device>("cpu", cpu::backend(), std::make_unique<DispatchStream>()));
  descriptions_.push_back({"cpu", cpu::description(), ""});
  descriptions_.push_back({"cuda", "NVIDIA GPU", "this build has no CUDA kernels"});
}

Runtime::~Runtime() {
  // Streams stop before the memory they may be using goes.
  for (auto& device : devices_) device->stream->stop();
  cpu::stop_threads();
}

Device& Runtime::device(const std::string& name) {
  for (auto& device : devices_)
    if (device->name == name) return *device;
  for (const auto& known : descriptions_)
    if (known.name == name) throw Error(kDeviceError, name + " is not available: " + known.reason);
  throw Error(kDeviceError, "unknown device " + name);
}

}  // namespace birkhoff
