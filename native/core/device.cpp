#include "core/device.h"

#include <condition_variable>
#include <mutex>

#include "core/error.h"
#include "cpu/backend.h"
#include "cpu/thread_pool.h"

namespace birkhoff {

namespace {
struct Current {
  std::mutex mutex;
  std::condition_variable gone;
  std::weak_ptr<Runtime> runtime;
  bool exists = false;  // from before its construction until after its destruction
};
}  // namespace

std::shared_ptr<Runtime> Runtime::get() {
  static auto* current = new Current;  // leaked: environments may end in any order
  std::unique_lock lock(current->mutex);
  if (std::shared_ptr<Runtime> runtime = current->runtime.lock()) return runtime;
  // The last environment of the old one may still be stopping its threads: the pool is the process's own.
  current->gone.wait(lock, [] { return !current->exists; });
  std::shared_ptr<Runtime> runtime(new Runtime, [](Runtime* old) {
    delete old;
    std::lock_guard guard(current->mutex);
    current->exists = false;
    current->gone.notify_all();
  });
  current->exists = true;
  current->runtime = runtime;
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
