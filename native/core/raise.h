// Errors found while a kernel runs. Out of line, in a file compiled once: building a std::string in a kernel would
// leave instruction-set specific copies of standard-library templates to the linker.
#pragma once
#include <cstdint>

namespace birkhoff {

// Throws Error(kRangeError, "embedding: indices[12] is 70000, want 0 to 49").
[[noreturn]] void raise_index(const char* op, const char* argument, int64_t position, int64_t value, int64_t count);

}  // namespace birkhoff
