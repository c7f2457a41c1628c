// Typed launches: a kernel and its arguments become a closure that the executor runs once per CUDA thread.
#pragma once
#include <cuda_runtime_api.h>

#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace cuda_emu {

struct Body {
  size_t bytes = 0;                   // of the whole object: kernels may read their parameters there
  std::vector<const void*> pointers;  // pointer parameters: must be device or pinned memory
  virtual void run() = 0;
  virtual ~Body() = default;
};

template <class... P>
struct BodyOf final : Body {
  void (*kernel)(P...);
  std::tuple<std::decay_t<P>...> arguments;

  template <class... A>
  explicit BodyOf(void (*function)(P...), A&&... values) : kernel(function), arguments(std::forward<A>(values)...) {
    bytes = sizeof(*this);
    std::apply([&](const auto&... value) { (note(value), ...); }, arguments);
  }
  template <class T>
  void note(const T& value) {
    if constexpr (std::is_pointer_v<T>) pointers.push_back(reinterpret_cast<const void*>(value));
  }
  void run() override { std::apply(kernel, arguments); }
};

cudaError_t submit(const cudaLaunchConfig_t& config, const void* function, std::shared_ptr<Body> body);
cudaError_t copy_to_symbol(void* symbol, const void* source, size_t bytes, cudaStream_t stream);

// Replaces cudaLaunchKernelEx.
template <class... P, class... A>
cudaError_t launch_ex(const cudaLaunchConfig_t* config, void (*kernel)(P...), A&&... arguments) {
  return submit(*config, reinterpret_cast<const void*>(kernel),
                std::make_shared<BodyOf<P...>>(kernel, std::forward<A>(arguments)...));
}

// Replaces cudaLaunchKernel, whose arguments are untyped; the kernel's type tells theirs.
template <class... P>
cudaError_t launch_untyped(void (*kernel)(P...), dim3 grid, dim3 block, void** arguments, size_t shared_bytes,
                           cudaStream_t stream) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  size_t i = 0;
  std::tuple<std::decay_t<P>...> values{*static_cast<std::decay_t<P>*>(arguments[i++])...};  // braces: left to right
  return std::apply([&](auto&... value) { return launch_ex(&config, kernel, value...); }, values);
}

}  // namespace cuda_emu

#define cudaLaunchKernelEx ::cuda_emu::launch_ex
#define cudaLaunchKernel ::cuda_emu::launch_untyped

template <class... P>
inline cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute attribute, int value) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <class... P>
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(P...)) {
  return cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}
template <class... P>
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*kernel)(P...), int threads,
                                                                 size_t shared_bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, reinterpret_cast<const void*>(kernel), threads,
                                                       shared_bytes);
}
template <class T>
inline cudaError_t cudaMemcpyToSymbolAsync(T& symbol, const void* source, size_t bytes, size_t offset = 0,
                                           cudaMemcpyKind = cudaMemcpyHostToDevice, cudaStream_t stream = nullptr) {
  return ::cuda_emu::copy_to_symbol(reinterpret_cast<char*>(&symbol) + offset, source, bytes, stream);
}
template <class T>
inline cudaError_t cudaMemcpyToSymbol(T& symbol, const void* source, size_t bytes, size_t offset = 0,
                                      cudaMemcpyKind = cudaMemcpyHostToDevice) {
  return ::cuda_emu::copy_to_symbol(reinterpret_cast<char*>(&symbol) + offset, source, bytes, nullptr);
}
