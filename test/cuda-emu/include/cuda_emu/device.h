// Everything a kernel source file may use that nvcc would have built in. Types (float4, dim3, __nv_bfloat16) come from
// the toolkit's headers.
#pragma once
#include "cuda_emu/arithmetic.h"
#include "cuda_emu/bfloat16.h"
#include "cuda_emu/builtins.h"
#include "cuda_emu/executor.h"
#include "cuda_emu/launch.h"
#include "cuda_emu/memory.h"
#include "cuda_emu/warp.h"
