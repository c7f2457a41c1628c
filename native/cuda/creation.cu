// fill, randn and cast on CUDA; see ops/creation.h. The bits are the CPU's.
#include "core/normal.h"
#include "core/philox.h"
#include "cuda/math.h"
#include "ops/creation.h"

namespace birkhoff::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) fill_kernel(int64_t size, T value, T* out) {
  const int64_t step = int64_t{kThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += step) out[i] = value;
}

// One counter per thread and pass: four numbers.
template <class T>
__global__ void __launch_bounds__(kThreads) randn_kernel(int64_t size, uint64_t seed, double mean, double std, T* out) {
  const int64_t step = int64_t{kThreads} * gridDim.x;
  for (int64_t block = int64_t{blockIdx.x} * kThreads + threadIdx.x; 4 * block < size; block += step) {
    const PhiloxWords words = philox4x32(seed, static_cast<uint64_t>(block), 0);
    double z[4];
    normal_pair(words.w[0], words.w[1], z[0], z[1]);
    normal_pair(words.w[2], words.w[3], z[2], z[3]);
#pragma unroll
    for (int k = 0; k < 4; ++k)
      if (4 * block + k < size) from_float(static_cast<float>(mean + std * z[k]), out[4 * block + k]);
  }
}

__device__ __forceinline__ void convert(float v, float& out) {
  out = v;
}
__device__ __forceinline__ void convert(float v, bfloat16& out) {
  out = to_bfloat16(v);
}
__device__ __forceinline__ void convert(bfloat16 v, float& out) {
  out = to_float(v);
}
__device__ __forceinline__ void convert(float v, int32_t& out) {
  out = v != v ? 0 : v >= 2147483648.0f ? 2147483647 : v < -2147483648.0f ? -2147483647 - 1 : static_cast<int32_t>(v);
}
__device__ __forceinline__ void convert(bfloat16 v, int32_t& out) {
  convert(to_float(v), out);
}
__device__ __forceinline__ void convert(int32_t v, float& out) {
  out = static_cast<float>(v);
}
// Rounded once: what float32 cannot hold is folded into a sticky bit below the last place of bfloat16.
__device__ __forceinline__ void convert(int32_t v, bfloat16& out) {
  uint32_t size = v < 0 ? 0u - static_cast<uint32_t>(v) : static_cast<uint32_t>(v);
  if (size >> 24) size = (size & ~0xffu) | ((size & 0xffu) ? 0x100u : 0u);
  const float exact = static_cast<float>(size);
  out = to_bfloat16(v < 0 ? -exact : exact);
}

template <class From, class To>
__global__ void __launch_bounds__(kThreads) cast_kernel(int64_t size, const From* x, To* out) {
  const int64_t step = int64_t{kThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += step) convert(x[i], out[i]);
}

template <class From, class To>
void cast_each(const CastArgs& args) {
  launch(cast_kernel<From, To>, grid_for(args.x.size, kThreads), kThreads, 0, args.x.size, args.x.as<From>(),
         args.out.as<To>());
}

template <class T>
void fill_with(const FillArgs& args, T value) {
  launch(fill_kernel<T>, grid_for(args.out.size, kThreads), kThreads, 0, args.out.size, value, args.out.as<T>());
}

}  // namespace

void fill(const FillArgs& args) {
  if (args.out.size == 0) return;
  if (args.out.dtype == DType::kInt32)
    fill_with(args, static_cast<int32_t>(args.value));
  else if (args.out.dtype == DType::kBFloat16)
    fill_with(args, to_bfloat16(static_cast<float>(args.value)));
  else
    fill_with(args, static_cast<float>(args.value));
}

void randn(const RandnArgs& args) {
  if (args.out.size == 0) return;
  with_float_type(args.out.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(randn_kernel<T>, grid_for(ceil_div(args.out.size, 4), kThreads), kThreads, 0, args.out.size,
           static_cast<uint64_t>(args.seed), args.mean, args.std, args.out.as<T>());
  });
}

void cast(const CastArgs& args) {
  const DType from = args.x.dtype, to = args.out.dtype;
  if (args.x.size == 0) return;
  if (from == to)
    current().check(cudaMemcpyAsync(args.out.data, args.x.data, static_cast<size_t>(args.x.size * dtype_bytes(from)),
                                    cudaMemcpyDeviceToDevice, current().compute),
                    "copy within the device");
  else if (from == DType::kFloat32)
    to == DType::kInt32 ? cast_each<float, int32_t>(args) : cast_each<float, bfloat16>(args);
  else if (from == DType::kBFloat16)
    to == DType::kInt32 ? cast_each<bfloat16, int32_t>(args) : cast_each<bfloat16, float>(args);
  else
    to == DType::kFloat32 ? cast_each<int32_t, float>(args) : cast_each<int32_t, bfloat16>(args);
}

}  // namespace birkhoff::cuda
