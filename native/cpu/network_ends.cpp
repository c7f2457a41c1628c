// expand and contract on CPU.
#include "cpu/kernels.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {
namespace {

constexpr int64_t kEndsPerTask = 16;

template <class T>
void expand_streams(const NetworkEndArgs& args) {
  const int64_t C = args.channels, n = args.n;
  const vf scale = broadcast(static_cast<float>(args.scale));
  parallel(ceil_div(args.tokens, kEndsPerTask), [&](int64_t task) {
    const int64_t end = min64(args.tokens, (task + 1) * kEndsPerTask);
    for (int64_t t = task * kEndsPerTask; t < end; ++t)
      for (int64_t c = 0; c < C; c += W) {
        const int64_t count = min64(W, C - c);
        const T* h = args.h.as<T>() + t * C + c;
        const vf value = scale * (count == W ? load(h) : load_partial(h, count));
        for (int64_t i = 0; i < n; ++i) {
          T* x = args.x.as<T>() + (t * n + i) * C + c;
          if (count == W)
            store(x, value);
          else
            store_partial(x, value, count);
        }
      }
  });
}

template <class T>
void contract_streams(const NetworkEndArgs& args) {
  const int64_t C = args.channels, n = args.n;
  const vf scale = broadcast(static_cast<float>(args.scale));
  parallel(ceil_div(args.tokens, kEndsPerTask), [&](int64_t task) {
    const int64_t end = min64(args.tokens, (task + 1) * kEndsPerTask);
    for (int64_t t = task * kEndsPerTask; t < end; ++t)
      for (int64_t c = 0; c < C; c += W) {
        const int64_t count = min64(W, C - c);
        vf sum = {};
        for (int64_t i = 0; i < n; ++i) {
          const T* x = args.x.as<T>() + (t * n + i) * C + c;
          sum = sum + (count == W ? load(x) : load_partial(x, count));
        }
        T* h = args.h.as<T>() + t * C + c;
        if (count == W)
          store(h, scale * sum);
        else
          store_partial(h, scale * sum, count);
      }
  });
}

}  // namespace

void expand(const NetworkEndArgs& args) {
  if (args.x.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) { expand_streams<std::remove_pointer_t<decltype(type)>>(args); });
}

void contract(const NetworkEndArgs& args) {
  if (args.h.size == 0) return;
  with_float_type(args.x.dtype, [&](auto* type) { contract_streams<std::remove_pointer_t<decltype(type)>>(args); });
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
