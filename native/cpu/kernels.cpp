// The kernel table of one instruction set.
#include "cpu/kernels.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

extern const Kernels kernel_table;
const Kernels kernel_table = {
#define X(name, js, Args) .name = name,
    BIRKHOFF_KERNELS(X)
#undef X
};

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
