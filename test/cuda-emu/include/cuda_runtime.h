// Found before the toolkit's own header when a .cu file is compiled by a host compiler for the executor: the real
// types and declarations, then what nvcc would have built in.
#pragma once
#include_next <cuda_runtime.h>

#include "cuda_emu/device.h"
