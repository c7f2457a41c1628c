// What the one device says of itself, and its memory pools.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "heap.h"
#include "host.h"
#include "streams.h"

using namespace cuda_emu;

namespace {

constexpr int kMultiprocessors = 4, kVersion = CUDART_VERSION;
constexpr int kSharedPerMultiprocessor = 228 * 1024, kRegisters = 65536, kCacheBytes = 1 << 20;

MemoryPool& pool_of(cudaMemPool_t handle) {
  return *reinterpret_cast<MemoryPool*>(handle);
}

// The machine can be told to be another: CUDA_EMU_DEVICES (GPUs), CUDA_EMU_DRIVER (the CUDA version that the driver
// supports, 12080 for 12.8; 0: no driver), CUDA_EMU_CAPABILITY (of the GPU, 90 for 9.0), CUDA_EMU_MEMORY (its MiB),
// CUDA_EMU_POOLS (0: it has no memory pools; -1: nor has it, but says so).
int machine(const char* what, int otherwise) {
  const char* text = getenv(what);
  return text ? atoi(text) : otherwise;
}
int pools() {
  return machine("CUDA_EMU_POOLS", 1);
}

int attribute(cudaDeviceAttr attribute) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      return kMultiprocessors;
    case cudaDevAttrComputeCapabilityMajor:
      return 9;
    case cudaDevAttrWarpSize:
      return kWarp;
    case cudaDevAttrMaxThreadsPerBlock:
      return kMaxThreads;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return 2048;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return kStaticSharedLimit;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return kSharedLimit;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return kSharedPerMultiprocessor;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      return kRegisters;
    case cudaDevAttrL2CacheSize:
      return kCacheBytes;
    case cudaDevAttrMemoryPoolsSupported:
      return pools() != 0;
    case cudaDevAttrStreamPrioritiesSupported:
    case cudaDevAttrUnifiedAddressing:
      return 1;
    default:
      return 0;
  }
}

int need_device_0(int device) {
  return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

}  // namespace

size_t cuda_emu::device_bytes() {
  static const size_t bytes = static_cast<size_t>(machine("CUDA_EMU_MEMORY", 8 << 10)) << 20;
  return bytes;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = machine("CUDA_EMU_DEVICES", 1) != 0;
  if (machine("CUDA_EMU_DRIVER", kVersion) < kVersion) return remember(cudaErrorInsufficientDriver);
  return *count ? cudaSuccess : remember(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device) {
  return call(kObject, __func__, [&] { return need_device_0(device); });
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  return query([&]() -> int {
    if (const int error = need_device_0(device)) return error;
    *properties = cudaDeviceProp{};
    snprintf(properties->name, sizeof properties->name, "CUDA executor (CPU)");
    const int capability = machine("CUDA_EMU_CAPABILITY", 90);
    properties->major = capability / 10;
    properties->minor = capability % 10;
    properties->multiProcessorCount = kMultiprocessors;
    properties->warpSize = kWarp;
    properties->maxThreadsPerBlock = kMaxThreads;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->sharedMemPerBlock = kStaticSharedLimit;
    properties->sharedMemPerBlockOptin = kSharedLimit;
    properties->sharedMemPerMultiprocessor = kSharedPerMultiprocessor;
    properties->totalGlobalMem = device_bytes();
    properties->regsPerBlock = properties->regsPerMultiprocessor = kRegisters;
    properties->l2CacheSize = kCacheBytes;
    properties->memoryPoolsSupported = pools() != 0;
    properties->unifiedAddressing = properties->streamPrioritiesSupported = 1;
    return cudaSuccess;
  });
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int device) {
  *value = attribute(name);
  return query([&] { return need_device_0(device); });
}
cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  snprintf(text, static_cast<size_t>(length), "0000:00:00.0");
  return query([&] { return need_device_0(device); });
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = kLeastPriority;
  *greatest = kGreatestPriority;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = machine("CUDA_EMU_DRIVER", kVersion);
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total) {
  return query([&] {
    *total = device_bytes();
    *free_bytes = *total - device_bytes_reserved();
    return sticky_error;
  });
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
#define NAME(name) \
  case name:       \
    return #name;
    NAME(cudaSuccess)
    NAME(cudaErrorInvalidValue)
    NAME(cudaErrorMemoryAllocation)
    NAME(cudaErrorInvalidConfiguration)
    NAME(cudaErrorInvalidDevice)
    NAME(cudaErrorInvalidResourceHandle)
    NAME(cudaErrorIllegalState)
    NAME(cudaErrorNotReady)
    NAME(cudaErrorNotSupported)
    NAME(cudaErrorIllegalAddress)
    NAME(cudaErrorMisalignedAddress)
    NAME(cudaErrorLaunchFailure)
    NAME(cudaErrorLaunchTimeout)
    NAME(cudaErrorLaunchOutOfResources)
    NAME(cudaErrorStreamCaptureUnsupported)
    NAME(cudaErrorStreamCaptureInvalidated)
    NAME(cudaErrorStreamCaptureMerge)
    NAME(cudaErrorStreamCaptureUnmatched)
    NAME(cudaErrorStreamCaptureUnjoined)
    NAME(cudaErrorStreamCaptureIsolation)
    NAME(cudaErrorCapturedEvent)
    NAME(cudaErrorUnknown)
#undef NAME
    default:
      return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t error) {
  static thread_local char text[100];
  snprintf(text, sizeof text, "%s (%d, from the CUDA executor)", cudaGetErrorName(error), static_cast<int>(error));
  return text;
}

// ---- memory pools ----
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device) {
  *pool = reinterpret_cast<cudaMemPool_t>(&default_pool);
  return call(kObject, __func__, [&] { return need_device_0(device); });
}
cudaError_t cudaDeviceGetMemPool(cudaMemPool_t* pool, int device) {
  return cudaDeviceGetDefaultMemPool(pool, device);
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  return call(kObject, __func__, [&]() -> int {
    if (pools() <= 0) return cudaErrorNotSupported;
    *pool = reinterpret_cast<cudaMemPool_t>(create_pool());
    return cudaSuccess;
  });
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  return query([&] {
    retire_pool(&pool_of(pool));
    return cudaSuccess;
  });
}
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t pool, size_t keep) {
  return call(kObject, __func__, [&] {
    trim_pool(pool_of(pool), keep);
    return cudaSuccess;
  });
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t handle, cudaMemPoolAttr attribute, void* value) {
  return call(kObject, __func__, [&]() -> int {
    MemoryPool& pool = pool_of(handle);
    switch (attribute) {
      case cudaMemPoolAttrReleaseThreshold:
        pool.release_threshold = *static_cast<uint64_t*>(value);
        return cudaSuccess;
      case cudaMemPoolReuseFollowEventDependencies:
      case cudaMemPoolReuseAllowOpportunistic:
      case cudaMemPoolReuseAllowInternalDependencies:
        pool.reuse[attribute - cudaMemPoolReuseFollowEventDependencies] = *static_cast<int*>(value);
        return cudaSuccess;
      case cudaMemPoolAttrReservedMemHigh:
      case cudaMemPoolAttrUsedMemHigh:
        pool.used_high = pool.used;
        return *static_cast<uint64_t*>(value) == 0 ? cudaSuccess : cudaErrorInvalidValue;
      default:
        return cudaErrorInvalidValue;
    }
  });
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t handle, cudaMemPoolAttr attribute, void* value) {
  return query([&]() -> int {
    const MemoryPool& pool = pool_of(handle);
    switch (attribute) {
      case cudaMemPoolAttrReleaseThreshold:
        *static_cast<uint64_t*>(value) = pool.release_threshold;
        return cudaSuccess;
      case cudaMemPoolAttrReservedMemCurrent:
        *static_cast<uint64_t*>(value) = pool.reserved();
        return cudaSuccess;
      case cudaMemPoolAttrUsedMemCurrent:
        *static_cast<uint64_t*>(value) = pool.used;
        return cudaSuccess;
      case cudaMemPoolAttrReservedMemHigh:
      case cudaMemPoolAttrUsedMemHigh:
        *static_cast<uint64_t*>(value) = pool.used_high;
        return cudaSuccess;
      case cudaMemPoolReuseFollowEventDependencies:
      case cudaMemPoolReuseAllowOpportunistic:
      case cudaMemPoolReuseAllowInternalDependencies:
        *static_cast<int*>(value) = pool.reuse[attribute - cudaMemPoolReuseFollowEventDependencies];
        return cudaSuccess;
      default:
        return cudaErrorInvalidValue;
    }
  });
}
