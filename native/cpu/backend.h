// The CPU backend: the kernel table of the best instruction set this machine has, or of the one BIRKHOFF_SIMD names.
#pragma once
#include <string>

#include "core/device.h"

namespace birkhoff::cpu {

const Backend& backend();
std::string description();
const char* simd_name();  // "portable" | "avx2" | "avx512"
const char* gemm_name();  // "OpenBLAS …" | "built-in"

}  // namespace birkhoff::cpu
