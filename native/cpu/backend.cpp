#include "cpu/backend.h"

#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "cpu/gemm.h"
#include "cpu/thread_pool.h"

namespace birkhoff::cpu {

#ifdef BIRKHOFF_LEVEL_PORTABLE
namespace portable {
extern const Kernels kernel_table;
}
#endif
#ifdef BIRKHOFF_LEVEL_AVX2
namespace avx2 {
extern const Kernels kernel_table;
}
#endif
#ifdef BIRKHOFF_LEVEL_AVX512
namespace avx512 {
extern const Kernels kernel_table;
}
#endif
#ifdef BIRKHOFF_LEVEL_NEON
namespace neon {
extern const Kernels kernel_table;
}
#endif

namespace {

struct Level {
  const char* name;
  const Kernels* kernels;
  bool supported;
};

// Best first. BIRKHOFF_SIMD picks another one, for tests and comparisons; one that cannot be had is an error, because a
// comparison that silently ran something else would be worse than none.
Level choose_level() {
  const Level levels[] = {
#ifdef BIRKHOFF_LEVEL_AVX512
      {"avx512", &avx512::kernel_table,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq")},
#endif
#ifdef BIRKHOFF_LEVEL_AVX2
      {"avx2", &avx2::kernel_table, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
#ifdef BIRKHOFF_LEVEL_NEON
      {"neon", &neon::kernel_table, true},  // every arm64 has it
#endif
#ifdef BIRKHOFF_LEVEL_PORTABLE
      {"portable", &portable::kernel_table, true},
#endif
  };
  const char* wanted = std::getenv("BIRKHOFF_SIMD");
  std::string supported;
  for (const Level& level : levels) {
    if (!level.supported) continue;
    if (!wanted || std::strcmp(wanted, level.name) == 0) return level;
    supported += (supported.empty() ? "" : ", ") + std::string(level.name);
  }
  throw Error(kDeviceError, "BIRKHOFF_SIMD is \"" + std::string(wanted ? wanted : "") +
                                "\", this machine and build have " +
                                (supported.empty() ? "none of the levels built" : supported));
}

const Level& level() {
  static const Level chosen = choose_level();
  return chosen;
}

void* acquire(void*, size_t bytes) {
#ifdef BIRKHOFF_SANITIZE
  return std::aligned_alloc(64, bytes);
#else
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  madvise(data, bytes, MADV_HUGEPAGE);  // best effort: fewer TLB misses in bandwidth-bound kernels
  return data;
#endif
}

void release(void*, void* data, size_t bytes) {
#ifdef BIRKHOFF_SANITIZE
  (void)bytes;
  std::free(data);
#else
  munmap(data, bytes);
#endif
}

void copy_from_host(void*, void* target, const void* source, size_t bytes) {
  std::memcpy(target, source, bytes);
}

void copy_to_host(void*, void* target, const void* source, size_t bytes, Completion done) {
  std::memcpy(target, source, bytes);
  done(nullptr);
}

std::function<void()> record(void*, std::shared_ptr<const Work> work) {
  return [work] {
    for (const auto& piece : *work) piece();
  };
}

using Clock = std::chrono::steady_clock;

// Work is done when the next piece begins: now is the moment.
std::shared_ptr<void> record_event(void*) {
  return std::make_shared<Clock::time_point>(Clock::now());
}

double elapsed_ms(void*, const void* from, const void* to) {
  const auto at = [](const void* event) { return *static_cast<const Clock::time_point*>(event); };
  return std::chrono::duration<double, std::milli>(at(to) - at(from)).count();
}

void trace(void*, std::function<void(const char*)>) {}  // an op is one kernel here

}  // namespace

const Backend& backend() {
  static const Backend table = {.kernels = *level().kernels,
                                .gpu = false,
                                .context = nullptr,
                                .memory = {nullptr, acquire, release, nullptr},
                                .copy_from_host = copy_from_host,
                                .copy_to_host = copy_to_host,
                                .record = record,
                                .record_event = record_event,
                                .elapsed_ms = elapsed_ms,
                                .trace = trace};
  return table;
}

const char* simd_name() {
  return level().name;
}
const char* gemm_name() {
  return gemm_library();
}
std::string description() {
  return std::string("CPU, ") + simd_name() + ", GEMM " + gemm_name();
}

}  // namespace birkhoff::cpu
