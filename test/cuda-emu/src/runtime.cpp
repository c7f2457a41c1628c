// Launches and memory: the part of the CUDA runtime API that moves data. The real header checks the signatures.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "heap.h"
#include "host.h"
#include "report.h"
#include "streams.h"

using namespace cuda_emu;

namespace {

constexpr int kDefaultDynamic = 48 * 1024;
std::unordered_map<const void*, int> max_dynamic;  // by kernel, where it was set

int dynamic_limit(const void* function) {
  const auto found = max_dynamic.find(function);
  return found == max_dynamic.end() ? kDefaultDynamic : found->second;
}

bool reachable(const void* address) {
  return is_device(address) || is_pinned(reinterpret_cast<uintptr_t>(address));
}

int check_launch(const cudaLaunchConfig_t& launch, const void* function) {
  const dim3 grid = launch.gridDim, block = launch.blockDim;
  const auto within = [](dim3 size, unsigned x, unsigned y, unsigned z) {
    return size.x && size.y && size.z && size.x <= x && size.y <= y && size.z <= z;
  };
  if (!within(grid, 2147483647u, 65535, 65535) || !within(block, kMaxThreads, kMaxThreads, 64) ||
      block.x * block.y * block.z > kMaxThreads)
    return cudaErrorInvalidConfiguration;
  if (launch.dynamicSmemBytes > static_cast<size_t>(dynamic_limit(function))) return cudaErrorInvalidValue;
  for (unsigned i = 0; i < launch.numAttrs; ++i)  // others change when a kernel runs, not what it does
    if (launch.attrs[i].id == cudaLaunchAttributeClusterDimension ||
        launch.attrs[i].id == cudaLaunchAttributeCooperative)
      return cudaErrorNotSupported;
  return cudaSuccess;
}

void launch_now(const cudaLaunchConfig_t& launch, const void* function, Body& body) {
  for (const void* parameter : body.pointers)
    if (parameter && !reachable(parameter)) {
      char text[32];
      snprintf(text, sizeof text, "%p", parameter);
      report(kBounds, cudaErrorIllegalAddress,
             function_name(function) + ": parameter " + text + " is not a device pointer");
      return;
    }
  run_kernel(launch, function, body);
}

// Pageable memory: staged at the call, like the driver does; a capture keeps the address.
int enqueue_copy(Stream* stream, void* target, const void* source, size_t bytes) {
  if (!bytes) return cudaSuccess;
  if (!fits_allocation(target, bytes, "write") || !fits_allocation(source, bytes, "read")) return cudaErrorInvalidValue;
  std::shared_ptr<std::vector<char>> staged;
  if (!reachable(source) && !stream->capture) {
    const char* start = static_cast<const char*>(source);
    staged = std::make_shared<std::vector<char>>(start, start + bytes);
  }
  return enqueue(stream, [=] {
    if (!fits_allocation(target, bytes, "write") || !fits_allocation(source, bytes, "read"))
      return report(kBounds, cudaErrorIllegalAddress, "copy from or to memory that was freed before it ran");
    memmove(target, staged ? staged->data() : source, bytes);
    if (is_device(target) && is_device(source)) return copy_written(target, source, bytes);
    mark_written(target, bytes);
  });
}

int copy(Stream* stream, void* target, const void* source, size_t bytes, cudaMemcpyKind kind) {
  const bool from_device = is_device(source), to_device = is_device(target);
  if (bytes && ((kind == cudaMemcpyHostToDevice && (from_device || !to_device)) ||
                (kind == cudaMemcpyDeviceToHost && (!from_device || to_device)) ||
                (kind == cudaMemcpyDeviceToDevice && (!from_device || !to_device)))) {
    explain("cudaMemcpy of kind %d from %p to %p", static_cast<int>(kind), source, target);
    return cudaErrorInvalidValue;
  }
  if (const int error = enqueue_copy(stream, target, source, bytes)) return error;
  return !stream->capture && !reachable(target) ? drain_stream(stream) : sticky_error;
}

int fill(Stream* stream, void* target, int value, size_t bytes) {
  if (!bytes) return cudaSuccess;
  if (!is_device(target) || !fits_allocation(target, bytes, "memset")) return cudaErrorInvalidValue;
  return enqueue(stream, [=] {
    if (!fits_allocation(target, bytes, "memset"))
      return report(kBounds, cudaErrorIllegalAddress, "memset of memory that was freed before it ran");
    memset(target, value, bytes);
    mark_written(target, bytes);
  });
}

int allocate_into(void** target, size_t bytes, MemoryPool& pool) {
  *target = bytes ? allocate(bytes, pool) : nullptr;
  return bytes && !*target ? cudaErrorMemoryAllocation : cudaSuccess;
}

}  // namespace

namespace cuda_emu {

bool opted_in(const void* function) {
  return max_dynamic.contains(function);
}

cudaError_t submit(const cudaLaunchConfig_t& launch, const void* function, std::shared_ptr<Body> body) {
  return call(kLaunch, "cudaLaunchKernelEx", [&]() -> int {
    if (const int error = check_launch(launch, function)) return error;
    cudaLaunchConfig_t kept = launch;
    kept.attrs = nullptr;
    kept.numAttrs = 0;
    return enqueue(stream_of(launch.stream), [kept, function, body] { launch_now(kept, function, *body); });
  });
}

cudaError_t copy_to_symbol(void* symbol, const void* source, size_t bytes, cudaStream_t stream) {
  return call(kWork, "cudaMemcpyToSymbol", [&] { return enqueue_copy(stream_of(stream), symbol, source, bytes); });
}

}  // namespace cuda_emu

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return call(kObject, __func__, [&]() -> int {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || value > static_cast<int>(kSharedLimit)) return cudaErrorInvalidValue;
    max_dynamic[function] = value;
    return cudaSuccess;
  });
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return query([&] {
    *attributes = cudaFuncAttributes{};
    attributes->maxThreadsPerBlock = kMaxThreads;
    attributes->numRegs = 32;
    attributes->binaryVersion = attributes->ptxVersion = 90;
    attributes->maxDynamicSharedSizeBytes = dynamic_limit(function);
    return cudaSuccess;
  });
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int threads, size_t shared_bytes) {
  return query([&] {
    const int by_threads = 2048 / std::max(threads, 1);
    const int by_shared = shared_bytes ? static_cast<int>(kSharedLimit / (shared_bytes + 1024)) : 32;
    *blocks = std::max(1, std::min(by_threads, by_shared));
    return cudaSuccess;
  });
}

cudaError_t cudaMalloc(void** target, size_t bytes) {
  return call(kAllocate, __func__, [&]() -> int {
    if (const int error = refuse_in_capture()) return error;
    return allocate_into(target, bytes, default_pool);
  });
}
cudaError_t cudaFree(void* memory) {
  return release_call(__func__, [&]() -> int {
    if (const int error = refuse_in_capture()) return error;
    drain_all();
    const int error = release(memory);
    trim_pools();
    return error;
  });
}

// Captured, an allocation is made at once; every replay finds it as if new, and a captured free ends it with the graph.
cudaError_t cudaMallocFromPoolAsync(void** target, size_t bytes, cudaMemPool_t pool, cudaStream_t handle) {
  return call(kAllocate, __func__, [&]() -> int {
    if (const int error = allocate_into(target, bytes, *reinterpret_cast<MemoryPool*>(pool))) return error;
    Stream* stream = stream_of(handle);
    if (!stream->capture || !*target) return cudaSuccess;
    return enqueue(stream, [memory = *target] { spoil(memory); });
  });
}
cudaError_t cudaMallocAsync(void** target, size_t bytes, cudaStream_t stream) {
  return cudaMallocFromPoolAsync(target, bytes, reinterpret_cast<cudaMemPool_t>(&default_pool), stream);
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t handle) {
  return release_call(__func__, [&]() -> int {
    Stream* stream = stream_of(handle);
    if (stream->capture) {
      stream->capture->graph->freed.push_back(memory);
      return cudaSuccess;
    }
    return enqueue(
        stream,
        [memory] {
          if (const int error = release(memory); error && !sticky_error) sticky_error = error;
        },
        true);
  });
}

cudaError_t cudaMallocHost(void** target, size_t bytes) {
  return call(kAllocate, __func__, [&]() -> int {
    if (const int error = refuse_in_capture()) return error;
    *target = bytes ? aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage) : nullptr;
    if (bytes && !*target) return cudaErrorMemoryAllocation;
    if (*target) pin(*target, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaHostAlloc(void** target, size_t bytes, unsigned) {
  return cudaMallocHost(target, bytes);
}
cudaError_t cudaFreeHost(void* memory) {
  return release_call(__func__, [&]() -> int {
    if (const int error = refuse_in_capture()) return error;
    if (!memory) return cudaSuccess;
    drain_all();
    if (!unpin(memory)) return cudaErrorInvalidValue;
    free(memory);
    return cudaSuccess;
  });
}
cudaError_t cudaHostRegister(void* memory, size_t bytes, unsigned) {
  return call(kAllocate, __func__, [&] {
    pin(memory, bytes);
    return cudaSuccess;
  });
}
cudaError_t cudaHostUnregister(void* memory) {
  return release_call(__func__, [&] { return unpin(memory) ? cudaSuccess : cudaErrorHostMemoryNotRegistered; });
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return call(kWork, __func__, [&] { return copy(stream_of(stream), target, source, bytes, kind); });
}
cudaError_t cudaMemcpy(void* target, const void* source, size_t bytes, cudaMemcpyKind kind) {
  return call(kWork, __func__, [&]() -> int {
    if (const int error = refuse_in_capture()) return error;
    return copy(stream_of(nullptr), target, source, bytes, kind);
  });
}
cudaError_t cudaMemsetAsync(void* target, int value, size_t bytes, cudaStream_t stream) {
  return call(kWork, __func__, [&] { return fill(stream_of(stream), target, value, bytes); });
}
cudaError_t cudaMemset(void* target, int value, size_t bytes) {
  return call(kWork, __func__, [&]() -> int {
    if (const int error = refuse_in_capture()) return error;
    return fill(stream_of(nullptr), target, value, bytes);
  });
}
