#include "core/device.h"

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <iterator>
#include <mutex>

#include "core/error.h"
#include "core/graph.h"
#include "cpu/backend.h"
#include "cpu/thread_pool.h"
#include "cuda/backend.h"

namespace birkhoff {

namespace {
struct Current {
  std::mutex mutex;
  std::condition_variable gone;
  std::weak_ptr<Runtime> runtime;
  bool exists = false;  // from before its construction until after its destruction
};

// process.exit tears no environment down: without this, kernels would still run while the libraries they call
// (OpenBLAS, CUDA) are being finalised.
void stop_at_exit();

// After everything that may have registered a handler of its own, as the CUDA driver does when it is first called:
// handlers run in the order opposite to their registration, and this one must come first. Idempotent.
void stop_before_all_others() {
  std::atexit(stop_at_exit);
}

Current* current() {
  static auto* instance = new Current;  // leaked: environments may end in any order
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
  stop_before_all_others();
  return runtime;
}

Runtime::Runtime() {
  devices_.push_back(std::make_unique<Device>("cpu", cpu::backend(), std::make_unique<DispatchStream>()));
  cpu_ = devices_.front().get();
  entries_.push_back({{"cpu", cpu::description(), ""}, nullptr});
}

const std::vector<DeviceEntry>& Runtime::entries() {
  std::call_once(listed_, [this] {
    std::vector<DeviceEntry> gpus = cuda::entries();
    std::move(gpus.begin(), gpus.end(), std::back_inserter(entries_));
    stop_before_all_others();
  });
  return entries_;
}

// Streams stop before the memory they may be using goes.
Runtime::~Runtime() {
  stop();
}

void Runtime::stop() {
  each([](Device& device) { device.stream->stop(); });
  cpu::stop_threads();
}

Device& Runtime::device(const std::string& name) {
  if (name == cpu_->name) return *cpu_;
  const std::vector<DeviceEntry>& known = entries();  // before the lock: work on open devices goes on meanwhile
  std::lock_guard lock(mutex_);
  for (auto& device : devices_)
    if (device->name == name) return *device;
  for (const auto& entry : known) {
    if (entry.description.name != name) continue;
    if (!entry.description.reason.empty())
      throw Error(kDeviceError, name + " is not available: " + entry.description.reason);
    devices_.push_back(entry.open());
    devices_.back()->allocator.set_budget(budget_);
    stop_before_all_others();
    return *devices_.back();
  }
  throw Error(kDeviceError, "unknown device " + name);
}

void Runtime::set_budget(int64_t bytes) {
  std::lock_guard lock(mutex_);
  budget_ = bytes;
  for (auto& device : devices_) device->allocator.set_budget(bytes);
}

void Device::submit(std::function<void()> work) {
  if (const std::exception_ptr failure = stream->failure()) std::rethrow_exception(failure);
  if (Recording* const recording = Recording::on(*this))
    recording->add(std::move(work));
  else
    stream->submit(std::move(work));
}

void Device::refuse_recording(const char* what) const {
  if (Recording::on(*this)) throw Error(kDeviceError, std::string(what) + " while a graph is recorded on " + name);
}

Allocator::Pool* Device::pool() const {
  Recording* const recording = Recording::on(*this);
  return recording ? recording->pool() : nullptr;
}

void Device::submit_copy(void* target, std::vector<char> source) {
  submit([this, target, source = std::move(source)] {
    if (!source.empty()) backend.copy_from_host(backend.context, target, source.data(), source.size());
  });
}

}  // namespace birkhoff
