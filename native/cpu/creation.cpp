// fill, randn and cast on CPU; see ops/creation.h.
#include "cpu/kernels.h"
#include "cpu/randn.h"
#include "cpu/vectors.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

template <class T>
void fill_with(T* out, int64_t size, T value) {
  parallel(ceil_div(size, kElementsPerTask), [&](int64_t task) {
    const int64_t end = min64(size, (task + 1) * kElementsPerTask);
    for (int64_t i = task * kElementsPerTask; i < end; ++i) out[i] = value;
  });
}

// Element by element, for the pairs with int32 in them.
template <class From, class To, class F>
BIRKHOFF_INLINE void convert_each(const From* x, To* out, int64_t size, const F& convert) {
  parallel(ceil_div(size, kElementsPerTask), [&](int64_t task) {
    const int64_t end = min64(size, (task + 1) * kElementsPerTask);
    for (int64_t i = task * kElementsPerTask; i < end; ++i) out[i] = convert(x[i]);
  });
}

template <class From, class To>
BIRKHOFF_INLINE void convert_floats(const From* x, To* out, int64_t size) {
  parallel_vectors(
      size, [&](int64_t i, auto count) BIRKHOFF_VECTOR_BODY { store_some(out + i, load_some(x + i, count), count); });
}

void copy_bytes(const void* from, void* to, int64_t bytes) {
  constexpr int64_t kBytes = 1 << 16;
  parallel(ceil_div(bytes, kBytes), [&](int64_t task) {
    const int64_t at = task * kBytes;
    memcpy(static_cast<char*>(to) + at, static_cast<const char*>(from) + at,
           static_cast<size_t>(min64(kBytes, bytes - at)));
  });
}

}  // namespace

void fill(const FillArgs& args) {
  if (args.out.dtype == DType::kInt32)
    fill_with(args.out.i32(), args.out.size, static_cast<int32_t>(args.value));
  else if (args.out.dtype == DType::kBFloat16)
    fill_with(args.out.bf16(), args.out.size, to_bfloat16(static_cast<float>(args.value)));
  else
    fill_with(args.out.f32(), args.out.size, static_cast<float>(args.value));
}

void randn(const RandnArgs& args) {
  with_float_type(args.out.dtype, [&](auto* type) {
    auto* out = static_cast<decltype(type)>(args.out.data);
    parallel(ceil_div(args.out.size, kElementsPerTask), [&](int64_t task) {
      const int64_t begin = task * kElementsPerTask;
      randn_range(out, begin, min64(args.out.size, begin + kElementsPerTask), static_cast<uint64_t>(args.seed),
                  args.mean, args.std);
    });
  });
}

void cast(const CastArgs& args) {
  const View &x = args.x, &out = args.out;
  const bool to_integer = out.dtype == DType::kInt32, from_integer = x.dtype == DType::kInt32;
  if (x.dtype == out.dtype)
    copy_bytes(x.data, out.data, x.size * dtype_bytes(x.dtype));
  else if (to_integer && x.dtype == DType::kFloat32)
    convert_each(x.f32(), out.i32(), x.size, [](float v) { return truncate_to_int32(v); });
  else if (to_integer)
    convert_each(x.bf16(), out.i32(), x.size, [](bfloat16 v) { return truncate_to_int32(to_float(v)); });
  else if (from_integer && out.dtype == DType::kFloat32)
    convert_each(x.i32(), out.f32(), x.size, [](int32_t v) { return static_cast<float>(v); });
  else if (from_integer)
    convert_each(x.i32(), out.bf16(), x.size, [](int32_t v) { return int32_to_bfloat16(v); });
  else if (x.dtype == DType::kFloat32)
    convert_floats(x.f32(), out.bf16(), x.size);
  else
    convert_floats(x.bf16(), out.f32(), x.size);
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
