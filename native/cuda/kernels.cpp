// The kernel table of the GPU.
#include "cuda/kernels.h"

namespace birkhoff::cuda {

extern const Kernels kernel_table;
const Kernels kernel_table = {
#define X(name, js, Args) .name = name,
    BIRKHOFF_KERNELS(X)
#undef X
};

}  // namespace birkhoff::cuda
