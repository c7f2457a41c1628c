// Turns program counters into source lines and errors into one readable line on stderr.
#include "report.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unordered_set>

#include "host.h"
#include "scheduler.h"

namespace cuda_emu {

int sticky_error = 0;
uintptr_t module_low = 0, module_high = 0;

namespace {

int counts[kKinds];
std::unordered_set<uint64_t> seen;
std::string last_report;

// Lines of `command`'s output.
std::vector<std::string> lines_of(const char* command) {
  std::vector<std::string> lines;
  FILE* pipe = popen(command, "r");
  if (!pipe) return lines;
  char line[1000];
  while (fgets(line, sizeof line, pipe)) {
    line[strcspn(line, "\n")] = 0;
    lines.emplace_back(line);
  }
  pclose(pipe);
  return lines;
}

std::vector<std::string> addr2line(const char* options, const Dl_info& info, uintptr_t address) {
  char command[1200];
  snprintf(command, sizeof command, "addr2line %s -e '%s' 0x%zx 2>/dev/null", options, info.dli_fname,
           static_cast<size_t>(address - reinterpret_cast<uintptr_t>(info.dli_fbase)));
  return lines_of(command);
}

bool starts_with(const std::string& text, const char* prefix) {
  return text.rfind(prefix, 0) == 0;
}

// The executor's, the toolkit's and the standard library's headers, and the wrappers of single instructions.
bool is_wrapper(const std::string& path, const std::string& name) {
  return path.find("/cuda_emu/") != std::string::npos || path.find("/c++/") != std::string::npos ||
         starts_with(name, "cuda_") || starts_with(name, "vector_") || starts_with(name, "ptx.h");
}

}  // namespace

void find_module() {
  if (module_low) return;
  Dl_info self{};
  dladdr(reinterpret_cast<void*>(&find_module), &self);
  module_low = reinterpret_cast<uintptr_t>(self.dli_fbase);
  dl_iterate_phdr(
      [](dl_phdr_info* image, size_t, void*) {
        uintptr_t end = 0;
        bool ours = false;
        for (int i = 0; i < image->dlpi_phnum; ++i) {
          const auto& header = image->dlpi_phdr[i];
          if (header.p_type != PT_LOAD) continue;
          const uintptr_t start = image->dlpi_addr + header.p_vaddr;
          end = std::max(end, start + header.p_memsz);
          ours |= reinterpret_cast<uintptr_t>(&find_module) - start < header.p_memsz;
        }
        if (ours) module_high = end;
        return ours ? 1 : 0;
      },
      nullptr);
}

std::string source_line(uint32_t pc) {
  if (!pc) return "?";
  const uintptr_t address = module_low + pc - 1;
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(address), &info) || !info.dli_fname) return "?";
  std::string innermost;
  for (std::string& line : addr2line("-Ci", info, address)) {  // from the innermost inlined function outwards
    line.resize(std::min(line.size(), line.find(" (discriminator")));
    const std::string name = line.substr(line.rfind('/') + 1);
    if (line[0] == '?') continue;
    if (!is_wrapper(line, name)) return name;
    if (innermost.empty()) innermost = name;
  }
  if (!innermost.empty()) return innermost;
  char text[300];
  snprintf(text, sizeof text, "%s+0x%x", info.dli_sname ? info.dli_sname : "pc", pc);
  return text;
}

std::string thread_name(uint32_t block, unsigned thread) {
  const dim3 grid = context.grid_dim, size = context.block_dim;
  char text[160];
  snprintf(text, sizeof text, "block (%u,%u,%u) thread (%u,%u,%u)", block % grid.x, block / grid.x % grid.y,
           block / grid.x / grid.y, thread % size.x, thread / size.x % size.y, thread / size.x / size.y);
  return text;
}

std::string function_name(const void* function) {
  Dl_info info{};
  const bool found = function && dladdr(function, &info);
  if (found && info.dli_sname && info.dli_saddr == function) {
    int status = 0;
    char* readable = abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status);
    const std::string name = readable ? readable : info.dli_sname;
    free(readable);
    return name;
  }
  if (found && info.dli_fname) {
    const auto lines = addr2line("-Csf", info, reinterpret_cast<uintptr_t>(function));
    if (!lines.empty() && lines[0][0] != '?') return lines[0];
  }
  char text[40];
  snprintf(text, sizeof text, "kernel@%p", function);
  return text;
}

bool first_of(Kind kind, int cuda_error, uint64_t key) {
  if (seen.insert(key).second) return true;
  ++counts[kind];
  if (!sticky_error) sticky_error = cuda_error;
  return false;
}

void report(Kind kind, int cuda_error, const std::string& text) {
  ++counts[kind];
  if (!sticky_error) sticky_error = cuda_error;
  last_report = text;
  if (current)
    last_report +=
        " [" + function_name(device.function) + ", " + thread_name(device.block_index, current->thread) + "]";
  fprintf(stderr, "cuda_emu: %s\n", last_report.c_str());
  if (config.abort_on_error) abort();
}

void fail(int cuda_error, const char* format, ...) {
  char text[1200];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  report(kOther, cuda_error, text);
  abandon_grid();
}

void fail_kind(Kind kind, int cuda_error, const char* format, ...) {
  char text[1200];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  report(kind, cuda_error, text);
  abandon_grid();
}

void explain(const char* format, ...) {
  char text[600];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  last_report = text;
}

void clear_reports() {
  sticky_error = 0;
  memset(counts, 0, sizeof counts);
  seen.clear();
  last_report.clear();
}

}  // namespace cuda_emu

using namespace cuda_emu;

int cuda_emu_count(int kind) {
  const Lock lock(device_mutex);
  return kind >= 0 && kind < kKinds ? counts[kind] : 0;
}

const char* cuda_emu_last_report() {
  static thread_local std::string copy;
  const Lock lock(device_mutex);
  copy = last_report;
  return copy.c_str();
}
