// Normal random numbers; compiled once, for all instruction sets.
#pragma once
#include <cstdint>

#include "core/dtype.h"

namespace birkhoff::cpu {

// out[i] = mean + std z_i for i in [begin, end); begin is a multiple of 4. out is the start of the whole tensor.
void randn_range(float* out, int64_t begin, int64_t end, uint64_t seed, double mean, double std);
void randn_range(bfloat16* out, int64_t begin, int64_t end, uint64_t seed, double mean, double std);

}  // namespace birkhoff::cpu
