#include "core/raise.h"

#include <string>

#include "core/error.h"

namespace birkhoff {

void raise_index(const char* op, const char* argument, int64_t position, int64_t value, int64_t count) {
  throw Error(kRangeError, std::string(op) + ": " + argument + "[" + std::to_string(position) + "] is " +
                               std::to_string(value) + ", want 0 to " + std::to_string(count - 1));
}

}  // namespace birkhoff
