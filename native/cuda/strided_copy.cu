// Strided copies on CUDA; see ops/strided_copy.h. One element per thread: its place in both layouts from its number.
#include "cuda/math.h"
#include "ops/strided_copy.h"

namespace birkhoff::cuda {
namespace {

constexpr int kThreads = 256;

template <class Element>
__global__ void __launch_bounds__(kThreads)
    strided_copy_kernel(const Element* source, Element* target, int64_t size, IntList shape, IntList from, IntList to) {
  const int64_t step = int64_t{kThreads} * gridDim.x;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += step) {
    int64_t rest = i, read = 0, write = 0;
    for (int axis = static_cast<int>(shape.size) - 1; axis >= 0; --axis) {
      const int64_t at = rest % shape.values[axis];
      rest /= shape.values[axis];
      read += at * from.values[axis];
      write += at * to.values[axis];
    }
    target[write] = source[read];
  }
}

template <class Element>
void copy(const StridedCopyArgs& args, int64_t size) {
  launch(strided_copy_kernel<Element>, grid_for(size, kThreads), kThreads, 0,
         args.source.as<Element>() + args.source_offset, args.target.as<Element>() + args.target_offset, size,
         args.shape, args.source_strides, args.target_strides);
}

}  // namespace

void strided_copy(const StridedCopyArgs& args) {
  int64_t size = 1;
  for (int64_t axis = 0; axis < args.shape.size; ++axis) size *= args.shape.values[axis];
  if (size == 0) return;
  if (dtype_bytes(args.source.dtype) == 2)
    copy<uint16_t>(args, size);
  else
    copy<uint32_t>(args, size);
}

}  // namespace birkhoff::cuda
