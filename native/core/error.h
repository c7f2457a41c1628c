// Typed errors. The binding turns them into JavaScript errors with the same code.
#pragma once
#include <stdexcept>
#include <string>

namespace birkhoff {

class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  const char* code() const noexcept { return code_; }

 private:
  const char* code_;  // a literal
};

inline constexpr const char* kShapeError = "ERR_SHAPE";
inline constexpr const char* kDTypeError = "ERR_DTYPE";
inline constexpr const char* kDisposedError = "ERR_DISPOSED";
inline constexpr const char* kDeviceError = "ERR_DEVICE";
inline constexpr const char* kOutOfMemoryError = "ERR_OUT_OF_MEMORY";
inline constexpr const char* kRangeError = "ERR_RANGE";
inline constexpr const char* kTypeError = "ERR_TYPE";

}  // namespace birkhoff
