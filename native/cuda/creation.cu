// fill, randn and cast on CUDA; see ops/creation.h. Bits are the CPU's: the random numbers are a function of seed and
// position, and every conversion is rounded by the same code.
#include "core/normal.h"
#include "core/philox.h"
#include "cuda/math.h"
#include "ops/creation.h"

namespace birkhoff::cuda {
namespace {

constexpr int kCreationThreads = 256;

// Word: four bytes where the start allows, else one bfloat16.
template <class Word>
__global__ void __launch_bounds__(kCreationThreads) fill_kernel(Word* out, int64_t size, Word value) {
  const int64_t step = int64_t{kCreationThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kCreationThreads + threadIdx.x; i < size; i += step) out[i] = value;
}

__global__ void __launch_bounds__(kCreationThreads) fill_vectors_kernel(uint4* out, int64_t size, uint32_t value) {
  const int64_t step = int64_t{kCreationThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kCreationThreads + threadIdx.x; i < size; i += step)
    out[i] = make_uint4(value, value, value, value);
}

template <class Word>
void fill_words(Word* out, int64_t size, Word value) {
  launch(fill_kernel<Word>, grid_for(size, kCreationThreads), kCreationThreads, 0, out, size, value);
}

// out_i = mean + std z_i, eight at a time: two draws of Philox, four pairs of deviates.
template <bool Vector, class T>
__global__ void __launch_bounds__(kCreationThreads)
    randn_kernel(T* out, int64_t size, uint64_t seed, double mean, double std) {
  const int64_t step = int64_t{8} * kCreationThreads * gridDim.x;
  for (int64_t i = (int64_t{blockIdx.x} * kCreationThreads + threadIdx.x) * 8; i < size; i += step) {
    float drawn[8];
#pragma unroll
    for (int k = 0; k < 8; k += 4) {
      const PhiloxWords words = philox4x32(seed, static_cast<uint64_t>((i + k) / 4), 0);
#pragma unroll
      for (int pair = 0; pair < 4; pair += 2) {
        double first, second;
        normal_pair(words.w[pair], words.w[pair + 1], first, second);
        drawn[k + pair] = static_cast<float>(mean + std * first);
        drawn[k + pair + 1] = static_cast<float>(mean + std * second);
      }
    }
    store_some<Vector>(out + i, size - i, drawn);
  }
}

template <bool Vector, class From, class To>
__global__ void __launch_bounds__(kCreationThreads) cast_floats_kernel(const From* x, To* out, int64_t size) {
  const int64_t step = int64_t{8} * kCreationThreads * gridDim.x;
  for (int64_t i = (int64_t{blockIdx.x} * kCreationThreads + threadIdx.x) * 8; i < size; i += step) {
    float v[8];
    load_some<Vector>(x + i, size - i, v);
    store_some<Vector>(out + i, size - i, v);
  }
}

__device__ __forceinline__ void convert(float v, int32_t& out) {
  out = truncate_to_int32(v);
}
__device__ __forceinline__ void convert(bfloat16 v, int32_t& out) {
  out = truncate_to_int32(to_float(v));
}
__device__ __forceinline__ void convert(int32_t v, float& out) {
  out = static_cast<float>(v);
}
__device__ __forceinline__ void convert(int32_t v, bfloat16& out) {
  out = int32_to_bfloat16(v);
}

template <class From, class To>
__global__ void __launch_bounds__(kCreationThreads) cast_each_kernel(const From* x, To* out, int64_t size) {
  const int64_t step = int64_t{kCreationThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kCreationThreads + threadIdx.x; i < size; i += step) convert(x[i], out[i]);
}

template <class From, class To>
void cast_floats(const From* x, To* out, int64_t size) {
  with_bool(size % 8 == 0 && aligned16(x) && aligned16(out), [&](auto vector) {
    launch(cast_floats_kernel<vector(), From, To>, grid_for(size, 8 * kCreationThreads), kCreationThreads, 0, x, out,
           size);
  });
}
template <class From, class To>
void cast_each(const From* x, To* out, int64_t size) {
  launch(cast_each_kernel<From, To>, grid_for(size, kCreationThreads), kCreationThreads, 0, x, out, size);
}

}  // namespace

void fill(const FillArgs& args) {
  const int64_t size = args.out.size, bytes = size * dtype_bytes(args.out.dtype);
  if (size == 0) return;
  const bool narrow = args.out.dtype == DType::kBFloat16;
  const float rounded = static_cast<float>(args.value);
  uint32_t word;
  if (narrow)
    word = uint32_t{to_bfloat16(rounded).bits} * 0x10001u;
  else if (args.out.dtype == DType::kInt32)
    word = static_cast<uint32_t>(static_cast<int32_t>(args.value));
  else
    memcpy(&word, &rounded, 4);
  if (bytes % 16 == 0 && aligned16(args.out))
    launch(fill_vectors_kernel, grid_for(bytes / 16, kCreationThreads), kCreationThreads, 0, args.out.as<uint4>(),
           bytes / 16, word);
  else if (narrow)
    fill_words(args.out.as<uint16_t>(), size, static_cast<uint16_t>(word));
  else
    fill_words(args.out.as<uint32_t>(), size, word);
}

void randn(const RandnArgs& args) {
  if (args.out.size == 0) return;
  with_float_type(args.out.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    with_bool(args.out.size % 8 == 0 && aligned16(args.out), [&](auto vector) {
      launch(randn_kernel<vector(), T>, grid_for(args.out.size, 8 * kCreationThreads), kCreationThreads, 0,
             args.out.as<T>(), args.out.size, static_cast<uint64_t>(args.seed), args.mean, args.std);
    });
  });
}

void cast(const CastArgs& args) {
  const View &x = args.x, &out = args.out;
  if (x.size == 0) return;
  if (x.dtype == out.dtype) {
    Context& context = current();
    context.check(cudaMemcpyAsync(out.data, x.data, static_cast<size_t>(x.size * dtype_bytes(x.dtype)),
                                  cudaMemcpyDeviceToDevice, context.compute),
                  "cudaMemcpyAsync");
  } else if (out.dtype == DType::kInt32) {
    with_float_type(x.dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      cast_each(x.as<const T>(), out.i32(), x.size);
    });
  } else if (x.dtype == DType::kInt32) {
    with_float_type(out.dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      cast_each(static_cast<const int32_t*>(x.i32()), out.as<T>(), x.size);
    });
  } else if (x.dtype == DType::kFloat32) {
    cast_floats(x.as<const float>(), out.bf16(), x.size);
  } else {
    cast_floats(x.as<const bfloat16>(), out.f32(), x.size);
  }
}

}  // namespace birkhoff::cuda
