// mhcPre forward on CUDA, two kernels: the projection ("stats"), with its sums of squares from the same registers, and
// the collapse, which folds it. x is read twice, 5C + 4C elements per token (n = 4).
#include "cuda/collapse.h"

namespace birkhoff::cuda {

void mhc_pre_forward(const MhcPreForwardArgs& args) {
  if (args.tokens == 0) return;
  CollapseArgs second = collapse_args(args, args.x, args.post, args.res);
  with_streams(args.n, [&](auto n) {
    with_float_type(args.x.dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      with_vectors<n()>(args.channels % 8 == 0 && aligned16(args.x), [&](auto vector) {
        ProjectionArgs<T> first{};
        first.x = args.x.as<T>();
        first.tokens = args.tokens;
        first.channels = args.channels;
        first.terms = args.options.projection_terms();
        second.partials =
            project<n(), vector(), false>(first, args.phi.f32(), static_cast<int>(args.coefficients()), args.scratch);
      });
    });
  });
  collapse(second, args.n, args.x.dtype, args.head());
}

}  // namespace birkhoff::cuda
