// The backend table of a GPU, and why there may be none.
#include "cuda/backend.h"

#include <cuda_runtime.h>

#include "core/error.h"
#include "cuda/context.h"
#include "cuda/kernels.h"

namespace birkhoff::cuda {

// All of them; defined in kernels.cpp.
extern const Kernels kernel_table;

namespace {

#ifdef BIRKHOFF_CUDA_EMULATED
constexpr const char* kName = "cuda-emulated";
#else
constexpr const char* kName = "cuda";
#endif

Context& of(void* context) {
  return *static_cast<Context*>(context);
}

Backend backend(Context& context) {
  return {.kernels = kernel_table,
          .gpu = true,
          .context = &context,
          .memory = {&context, [](void* c, size_t bytes) { return of(c).acquire(bytes); },
                     [](void* c, void* data, size_t) { of(c).release(data); }, [](void* c) { of(c).trim(); }},
          .copy_from_host = [](void* c, void* target, const void* source,
                               size_t bytes) { of(c).copy_from_host(target, source, bytes); },
          .copy_to_host = [](void* c, void* target, const void* source, size_t bytes,
                             Completion done) { of(c).copy_to_host(target, source, bytes, std::move(done)); },
          .record = [](void* c, std::shared_ptr<const Work> work) { return of(c).record(std::move(work)); },
          .record_event = [](void* c) { return of(c).record_event(); },
          .elapsed_ms = [](void* c, const void* from, const void* to) { return of(c).elapsed_ms(from, to); },
          .trace = [](void* c, std::function<void(const char*)> launched) { of(c).trace(std::move(launched)); }};
}

// Work is queued on a dispatch thread, which launches it: launching blocks while the GPU's own queue is full, and
// JavaScript must not.
class CudaStream final : public Stream {
 public:
  explicit CudaStream(std::unique_ptr<Context> context)
      : context_(std::move(context)), dispatch_([this] { context_->bind(); }) {}
  ~CudaStream() override { stop(); }

  void submit(std::function<void()> work) override { dispatch_.submit(std::move(work)); }
  void drain() override {
    dispatch_.submit([this] { context_->synchronize(); });
    dispatch_.drain();
  }
  std::exception_ptr take_error() override {
    const std::exception_ptr error = dispatch_.take_error();
    return error ? error : context_->failure();
  }
  std::exception_ptr failure() override { return context_->failure(); }
  void stop() override {
    dispatch_.stop();
    context_->finish();
    context_->stop_reader();
  }

 private:
  const std::unique_ptr<Context> context_;
  DispatchStream dispatch_;
};

std::unique_ptr<Device> open(const std::string& name, int index) {
  auto context = std::make_unique<Context>(index);
  const Backend table = backend(*context);
  return std::make_unique<Device>(name, table, std::make_unique<CudaStream>(std::move(context)));
}

std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

// Why no GPU can be used, or empty.
std::string reason(int& count) {
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count > 0) return "";
  cudaGetLastError();
  int driver = 0, runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  if (error == cudaErrorInsufficientDriver && driver == 0) return "no NVIDIA driver is installed";
  if (error == cudaErrorInsufficientDriver)
    return "the NVIDIA driver is too old: it supports CUDA " + version(driver) + ", this build needs " +
           version(runtime);
  if (error == cudaSuccess || error == cudaErrorNoDevice) return "no NVIDIA GPU was found";
  return std::string("CUDA cannot start: ") + cudaGetErrorName(error) + " (" + cudaGetErrorString(error) + ")";
}

// Some devices say that they have them, and refuse.
bool has_pools(const cudaDeviceProp& properties, int index) {
  if (!properties.memoryPoolsSupported) return false;
  cudaMemPool_t pool = nullptr;
  const cudaError_t error = make_pool(index, &pool);
  if (error == cudaSuccess)
    cudaMemPoolDestroy(pool);
  else
    cudaGetLastError();
  return error != cudaErrorNotSupported;
}

}  // namespace

bool has_kernels(const std::string& architectures, int capability) {
  for (size_t at = 0; at < architectures.size();) {
    const size_t end = std::min(architectures.find(',', at), architectures.size());
    const std::string item = architectures.substr(at, end - at);
    at = end + 1;
    const int built = std::stoi(item);  // 90 of "90a-real"
    const bool specific = item.find('a') < item.find('-');
    // Machine code runs on later chips of the same generation, PTX on every later one.
    if (item.ends_with("virtual") ? built <= capability
        : specific                ? built == capability
                                  : built / 10 == capability / 10 && built <= capability)
      return true;
  }
  return false;
}

std::vector<DeviceEntry> entries() {
  int count = 0;
  const std::string missing = reason(count);
  if (!missing.empty()) return {{{kName, "NVIDIA GPU", missing}, nullptr}};
  std::vector<DeviceEntry> list;
  for (int index = 0; index < count; ++index) {
    const std::string name = index == 0 ? kName : std::string(kName) + ":" + std::to_string(index);
    cudaDeviceProp properties{};
    const cudaError_t error = cudaGetDeviceProperties(&properties, index);
    if (error != cudaSuccess) {
      cudaGetLastError();
      list.push_back(
          {{name, "NVIDIA GPU", std::string("its properties cannot be read: ") + cudaGetErrorName(error)}, nullptr});
      continue;
    }
    const std::string capability = std::to_string(properties.major) + "." + std::to_string(properties.minor);
    DeviceDescription description{name, std::string(properties.name) + ", compute capability " + capability, ""};
    if (!has_kernels(BIRKHOFF_CUDA_ARCHITECTURES, 10 * properties.major + properties.minor))
      description.reason = "this build has no kernel image for compute capability " + capability + " (it has " +
                           BIRKHOFF_CUDA_ARCHITECTURES + ")";
    else if (!has_pools(properties, index))
      description.reason =
          "it has no memory pools (cudaMemPoolCreate is not supported), like some virtual GPUs and MIG slices";
    list.push_back({description, [name, index] { return open(name, index); }});
  }
  return list;
}

}  // namespace birkhoff::cuda
