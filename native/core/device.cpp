#include "core/device.h"

#include <condition_variable>
#include <cstdlib>
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

// process.exit tears no environment down: without this, kernels would still run while the libraries they call
// (OpenBLAS) are being finalised. Handlers run before that, in the order opposite to their registration.
void stop_at_exit();

Current* current() {
  static auto* instance = [] {
    std::atexit(stop_at_exit);
    return new Current;  // leaked: environments may end in any order
  }();
  return instance;
}

void stop_at_exit() {
  std::shared_ptr<Runtime> runtime;
  {
    std::lock_guard lock(current()->mutex);
    runtime = current()->runtime.lock();
  }
  if (runtime) runtime->stop();
}
}  // namespace

std::shared_ptr<Runtime> Runtime::get() {
  Current* const current = birkhoff::current();
  std::unique_lock lock(current->mutex);
  if (std::shared_ptr<Runtime> runtime = current->runtime.lock()) return runtime;
  // The last environment of the old one may still be stopping its threads: the pool is the process's own.
  current->gone.wait(lock, [current] { return !current->exists; });
  std::shared_ptr<Runtime> runtime(new Runtime, [current](Runtime* old) {
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

// Streams stop before the memory they may be using goes.
Runtime::~Runtime() {
  stop();
}

void Runtime::stop() {
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
