// Error reports: their text, their counts, and the source lines in them.
#pragma once
#include <cstdint>
#include <string>

#include "state.h"

namespace cuda_emu {

enum Kind {
  kRace = CUDA_EMU_RACE,
  kBounds = CUDA_EMU_BOUNDS,
  kUninitialised = CUDA_EMU_UNINITIALISED,
  kDivergence = CUDA_EMU_DIVERGENCE,
  kMisaligned = CUDA_EMU_MISALIGNED,
  kOther = CUDA_EMU_OTHER,
  kKinds = CUDA_EMU_KINDS
};

// Program counters are kept as 32-bit offsets into this module; 0: none.
void find_module();
extern uintptr_t module_low, module_high;
inline uint32_t short_pc(const void* pc) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pc) - module_low);
}

std::string source_line(uint32_t pc);
std::string thread_name(uint32_t block, unsigned thread);
std::string function_name(const void* function);

// Counts the report, prints it and poisons the context.
void report(Kind kind, int cuda_error, const std::string& text);
// The same for one of many alike: counted, printed once for a key.
bool first_of(Kind kind, int cuda_error, uint64_t key);
// Ends the running grid with a report. Only in a lane.
[[noreturn]] void fail_kind(Kind kind, int cuda_error, const char* format, ...) __attribute__((format(printf, 3, 4)));
// Keeps a text for cuda_emu_last_report without counting it: an API call refused its arguments.
void explain(const char* format, ...) __attribute__((format(printf, 1, 2)));

void clear_reports();

}  // namespace cuda_emu
