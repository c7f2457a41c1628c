#include "cpu/randn.h"

#include "core/normal.h"
#include "core/philox.h"

namespace birkhoff::cpu {
namespace {

template <class T>
void draw(T* out, int64_t begin, int64_t end, uint64_t seed, double mean, double std) {
  for (int64_t at = begin; at < end; at += 4) {
    const PhiloxWords words = philox4x32(seed, static_cast<uint64_t>(at / 4), 0);
    double z[4];
    normal_pair(words.w[0], words.w[1], z[0], z[1]);
    normal_pair(words.w[2], words.w[3], z[2], z[3]);
    for (int64_t k = 0; k < 4 && at + k < end; ++k) from_float(static_cast<float>(mean + std * z[k]), out[at + k]);
  }
}

}  // namespace

void randn_range(float* out, int64_t begin, int64_t end, uint64_t seed, double mean, double std) {
  draw(out, begin, end, seed, mean, std);
}
void randn_range(bfloat16* out, int64_t begin, int64_t end, uint64_t seed, double mean, double std) {
  draw(out, begin, end, seed, mean, std);
}

}  // namespace birkhoff::cpu
