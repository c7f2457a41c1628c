// cuBLAS 12 or 13, loaded when the first device is opened; the addon is built without its headers.
//
// BIRKHOFF_CUBLAS = "none" or "builtin": not used; = a path: that file or an error. Else the first that loads of
// libcublas.so.13 and libcublas.so.12, by the loader's own search, then in lib64, targets/x86_64-linux/lib and lib of
// $CUDA_HOME, $CUDA_PATH and /usr/local/cuda, then in Python packages (nvidia/*/lib) of $VIRTUAL_ENV, $HOME/.local,
// /usr/local and /usr. Executor builds load it only from BIRKHOFF_CUBLAS.
#pragma once
#include <string>

#include "cuda/gemm.h"

namespace birkhoff::cuda {

// A handle on the context's compute stream with a workspace of its own, or null without cuBLAS. Throws
// Error(kDeviceError) where BIRKHOFF_CUBLAS names what cannot be loaded, or cuBLAS fails.
void* open_cublas(Context& context);
void close_cublas(Context& context, void* handle) noexcept;

// What cuBLAS computes as Gemm says: both operands of one type, a bias that c holds exactly.
bool cublas_takes(const Gemm& problem);
void cublas_gemm(Context& context, const Gemm& problem);

std::string cublas_name();  // "cuBLAS 13.0 (/usr/…/libcublas.so.13)", or why there is none

// Every row of c = bias, so that a product can be added to it (matmul.cu).
void broadcast_bias(const Gemm& problem);

}  // namespace birkhoff::cuda
