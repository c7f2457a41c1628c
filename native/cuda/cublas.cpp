#include "cuda/cublas.h"

#include <dlfcn.h>
#include <glob.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "core/error.h"

namespace birkhoff::cuda {
namespace {

// From the cuBLAS documentation; the same in 12 and 13.
constexpr int kNoTranspose = 0, kTranspose = 1;       // cublasOperation_t
constexpr int kReal32 = 0, kRealBFloat16 = 14;        // cudaDataType
constexpr int kCompute32 = 68;                        // CUBLAS_COMPUTE_32F: no TF32
constexpr int kDefaultAlgorithm = -1;                 // CUBLAS_GEMM_DEFAULT
constexpr int kAtomicsNotAllowed = 0;                 // cublasAtomicsMode_t
constexpr int kDefaultMathFullReduction = 0 | 16;     // CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION
constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what the documentation recommends for sm_90

struct Functions {
  int (*create)(void** handle);
  int (*destroy)(void* handle);
  int (*set_stream)(void* handle, cudaStream_t stream);
  int (*set_workspace)(void* handle, void* workspace, size_t bytes);
  int (*set_atomics_mode)(void* handle, int mode);
  int (*set_math_mode)(void* handle, int mode);
  int (*get_property)(int type, int* value);
  const char* (*status_name)(int status);
  int (*gemm)(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int a_type,
              int lda, long long a_stride, const void* b, int b_type, int ldb, long long b_stride, const void* beta,
              void* c, int c_type, int ldc, long long c_stride, int batch, int compute_type, int algorithm);
};

struct Library {
  Functions functions{};
  bool loaded = false;
  std::string name;   // for doctor
  std::string error;  // of what BIRKHOFF_CUBLAS names
};

// Empty, or why the file cannot be used.
std::string load(const std::string& file, Library& library) {
  // Beside a library that is named by its path lies the one it needs, which the loader may not search for there.
  const size_t slash = file.rfind('/'), base = file.rfind("libcublas.so");
  if (slash != std::string::npos && base == slash + 1)
    dlopen((file.substr(0, base) + "libcublasLt.so" + file.substr(base + 12)).c_str(), RTLD_NOW | RTLD_LOCAL);
  void* const opened = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!opened) return dlerror();
  Functions& f = library.functions;
  const char* missing = nullptr;
  const auto find = [&](const char* symbol, auto& function) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(opened, symbol));
    if (!function) missing = symbol;
  };
  find("cublasCreate_v2", f.create), find("cublasDestroy_v2", f.destroy), find("cublasSetStream_v2", f.set_stream);
  find("cublasSetWorkspace_v2", f.set_workspace), find("cublasSetAtomicsMode", f.set_atomics_mode);
  find("cublasSetMathMode", f.set_math_mode), find("cublasGetProperty", f.get_property);
  find("cublasGetStatusName", f.status_name), find("cublasGemmStridedBatchedEx", f.gemm);
  if (missing) return file + " has no " + missing;
  int major = 0, minor = 0;
  f.get_property(0, &major), f.get_property(1, &minor);
  if (major != 12 && major != 13) return file + " is cuBLAS " + std::to_string(major) + ", want 12 or 13";
  Dl_info info{};
  const bool placed = dladdr(reinterpret_cast<void*>(f.create), &info) && info.dli_fname;
  library.name =
      "cuBLAS " + std::to_string(major) + "." + std::to_string(minor) + " (" + (placed ? info.dli_fname : file) + ")";
  library.loaded = true;
  return "";
}

// The version of this build's runtime first: a driver that is new enough for it is new enough for that cuBLAS.
constexpr int kMajor = CUDART_VERSION >= 13000 ? 13 : 12;

[[maybe_unused]] std::vector<std::string> candidates() {
  std::vector<std::string> folders{""};
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH", "/usr/local/cuda"}) {
    const char* root = variable[0] == '/' ? variable : std::getenv(variable);
    if (!root || !root[0]) continue;
    for (const char* below : {"/lib64/", "/targets/x86_64-linux/lib/", "/lib/"})
      folders.push_back(std::string(root) + below);
  }
  const char* environment = std::getenv("VIRTUAL_ENV");
  const char* home = std::getenv("HOME");
  for (const std::string& root :
       {std::string(environment ? environment : ""), home ? std::string(home) + "/.local" : "",
        std::string("/usr/local"), std::string("/usr")}) {
    if (root.empty()) continue;
    glob_t found{};
    if (glob((root + "/lib/python3*/*-packages/nvidia/*/lib/libcublas.so.1[23]").c_str(), 0, nullptr, &found) == 0)
      for (size_t i = 0; i < found.gl_pathc; ++i) {
        const std::string file = found.gl_pathv[i];
        folders.push_back(file.substr(0, file.rfind('/') + 1));
      }
    globfree(&found);
  }
  std::vector<std::string> files;
  for (const std::string& folder : folders)
    for (const int major : {kMajor, 25 - kMajor}) files.push_back(folder + "libcublas.so." + std::to_string(major));
  return files;
}

Library search() {
  Library library;
  const char* wanted = std::getenv("BIRKHOFF_CUBLAS");
  const std::string choice = wanted ? wanted : "";
  if (choice == "none" || choice == "builtin") {
    library.name = "built-in (BIRKHOFF_CUBLAS=" + choice + ")";
  } else if (!choice.empty()) {
    const std::string reason = load(choice, library);
    if (!library.loaded) {
      library.error = "BIRKHOFF_CUBLAS is \"" + choice + "\", which cannot be used: " + reason;
      library.name = "none: " + library.error;
    }
  } else {
#ifndef BIRKHOFF_CUDA_EMULATED
    std::string refused;
    for (const std::string& file : candidates()) {
      const std::string reason = load(file, library);
      if (library.loaded) break;
      if (refused.empty() && access(file.c_str(), F_OK) == 0) refused = reason;
    }
    if (!library.loaded && !refused.empty()) library.name = "built-in (cuBLAS cannot be used: " + refused + ")";
#endif
    if (library.name.empty()) library.name = "built-in (cuBLAS 12 or 13 not found; BIRKHOFF_CUBLAS can name its file)";
  }
  return library;
}

const Library& library() {
  static const Library* const found = new Library(search());
  return *found;
}

void check(int status, const char* what) {
  if (status == 0) return;
  throw Error(kDeviceError, std::string("cuda: ") + what + " failed: " + library().functions.status_name(status));
}

struct Handle {
  void* blas = nullptr;
  void* workspace = nullptr;
};

}  // namespace

std::string cublas_name() {
  return library().name;
}

void* open_cublas(Context& context) {
  const Library& found = library();
  if (!found.error.empty()) throw Error(kDeviceError, "cuda: " + found.error);
  if (!found.loaded) return nullptr;
  const Functions& f = found.functions;
  auto handle = std::make_unique<Handle>();
  try {
    check(f.create(&handle->blas), "cublasCreate (BIRKHOFF_CUBLAS=none does without cuBLAS)");
    handle->workspace = context.acquire(kWorkspaceBytes);
    if (!handle->workspace) throw Error(kOutOfMemoryError, "cuda: no room for cuBLAS's workspace of 32 MiB");
    // The workspace after the stream, which resets it. A fixed one: graphs and equal bits from run to run need it.
    check(f.set_stream(handle->blas, context.compute), "cublasSetStream");
    check(f.set_workspace(handle->blas, handle->workspace, kWorkspaceBytes), "cublasSetWorkspace");
    check(f.set_atomics_mode(handle->blas, kAtomicsNotAllowed), "cublasSetAtomicsMode");
    check(f.set_math_mode(handle->blas, kDefaultMathFullReduction), "cublasSetMathMode");
  } catch (...) {
    close_cublas(context, handle.release());
    throw;
  }
  return handle.release();
}

void close_cublas(Context& context, void* opened) noexcept {
  const std::unique_ptr<Handle> handle(static_cast<Handle*>(opened));
  if (handle->blas) library().functions.destroy(handle->blas);
  if (handle->workspace) context.release(handle->workspace);
}

bool cublas_takes(const Gemm& g) {
  const bool bias_fits = !g.bias || g.bias_type == g.c_type || g.c_type == DType::kFloat32;
  return g.a_type == g.b_type && (g.a_type == DType::kBFloat16 || g.c_type == DType::kFloat32) && bias_fits &&
         !(g.bias && g.accumulate);
}

// cuBLAS is column-major: what it computes of the same memory is cT = op(b)T op(a)T.
void cublas_gemm(Context& context, const Gemm& g) {
  const auto type = [](DType dtype) { return dtype == DType::kBFloat16 ? kRealBFloat16 : kReal32; };
  const auto at = [](auto* data, DType dtype, int64_t element) {
    using Byte = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(data)>>, const char, char>;
    return static_cast<Byte*>(data) + element * dtype_bytes(dtype);
  };
  if (g.bias) broadcast_bias(g);
  const float beta = g.accumulate || g.bias ? 1.0f : 0.0f;
#ifdef BIRKHOFF_CUDA_EMULATED
  // A library in a test computes when it is called, on the host: after what is queued, and c counts as written.
  if (beta == 0.0f)
    for (int64_t i = 0; i < g.batch; ++i)
      context.check(cudaMemsetAsync(at(g.c, g.c_type, i * g.c_stride), 0,
                                    static_cast<size_t>(g.m * g.n * dtype_bytes(g.c_type)), context.compute),
                    "cudaMemsetAsync");
  context.synchronize();
#endif
  constexpr int64_t kMostMatrices = 65535;  // of one call
  for (int64_t first = 0; first < g.batch; first += kMostMatrices) {
    const int64_t count = g.batch - first < kMostMatrices ? g.batch - first : kMostMatrices;
    check(library().functions.gemm(
              static_cast<Handle*>(context.blas)->blas, g.transpose_b ? kTranspose : kNoTranspose,
              g.transpose_a ? kTranspose : kNoTranspose, static_cast<int>(g.n), static_cast<int>(g.m),
              static_cast<int>(g.k), &g.scale, at(g.b, g.b_type, first * g.b_stride), type(g.b_type),
              static_cast<int>(g.transpose_b ? g.k : g.n), g.b_stride, at(g.a, g.a_type, first * g.a_stride),
              type(g.a_type), static_cast<int>(g.transpose_a ? g.m : g.k), g.a_stride, &beta,
              at(g.c, g.c_type, first * g.c_stride), type(g.c_type), static_cast<int>(g.n), g.c_stride,
              static_cast<int>(count), kCompute32, kDefaultAlgorithm),
          "cublasGemmStridedBatchedEx");
  }
}

}  // namespace birkhoff::cuda
