#include "cuda/index_errors.h"

#include <cstring>
#include <string>

#include "core/error.h"
#include "core/raise.h"
#include "cuda/context.h"

namespace birkhoff::cuda {
namespace {

constexpr IndexErrors::Word kNone = ~IndexErrors::Word{0};
constexpr int64_t kAny = -1;  // the count of a word that serves several

}  // namespace

void IndexErrors::open(Context& context) {
  context.check(cudaMalloc(reinterpret_cast<void**>(&words_), kBytes), "cudaMalloc");
  context.check(cudaMemsetAsync(words_, 0xff, kBytes, context.compute), "cudaMemsetAsync");
}

void IndexErrors::close() noexcept {
  if (words_) cudaFree(words_);
  words_ = nullptr;
}

IndexErrors::Word* IndexErrors::word(const char* op, const char* argument, int64_t count) {
  std::lock_guard lock(mutex_);
  // Past this many different vocabularies the error does not say the range.
  constexpr size_t kExact = kWords - 8;
  for (int pass = 0; pass < 2; ++pass) {
    const int64_t wanted = pass == 0 ? count : kAny;
    for (size_t i = 0; i < sites_.size(); ++i)
      if (!strcmp(sites_[i].op, op) && !strcmp(sites_[i].argument, argument) && sites_[i].count == wanted)
        return words_ + i;
    if (sites_.size() < (pass == 0 ? kExact : kWords)) {
      sites_.push_back({op, argument, wanted});
      return words_ + sites_.size() - 1;
    }
  }
  throw Error(kDeviceError, std::string(op) + ": too many ops take indices");
}

cudaError_t IndexErrors::take(void* target, cudaStream_t stream) {
  const cudaError_t error = cudaMemcpyAsync(target, words_, kBytes, cudaMemcpyDefault, stream);
  return error == cudaSuccess ? cudaMemsetAsync(words_, 0xff, kBytes, stream) : error;
}

void IndexErrors::raise(const void* copy) {
  Word words[kWords];
  std::memcpy(words, copy, kBytes);
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < sites_.size(); ++i) {
    if (words[i] == kNone) continue;
    const auto position = static_cast<int64_t>(words[i] >> 32);
    const auto value = static_cast<int32_t>(static_cast<uint32_t>(words[i]));
    const Site& site = sites_[i];
    if (site.count != kAny) raise_index(site.op, site.argument, position, value, site.count);
    throw Error(kRangeError, std::string(site.op) + ": " + site.argument + "[" + std::to_string(position) + "] is " +
                                 std::to_string(value) + ", out of range");
  }
}

}  // namespace birkhoff::cuda
