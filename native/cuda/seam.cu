// The seam on CUDA: the merge of one connection with the projection of the next, whose products ride on the tile while
// it is written, then the collapse. 14C elements per token and connection instead of 18C (n = 4), bit for bit what
// mhcPost and mhcPre give: the same merge, the same projection, the same order of sums. See ops/seam.h.
#include "cuda/collapse.h"
#include "ops/seam.h"

namespace birkhoff::cuda {

void seam_forward(const SeamForwardArgs& args) {
  if (args.tokens == 0) return;
  CollapseArgs second = collapse_args(args, args.y, args.post_next, args.res_next);
  with_streams(args.n, [&](auto n) {
    with_float_type(args.x.dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      with_vectors<n()>(args.channels % 8 == 0 && aligned16(args.x, args.output, args.y), [&](auto vector) {
        ProjectionArgs<T> first{};
        first.x = args.x.as<T>();
        first.output = args.output.as<T>();
        first.post = args.post.f32();
        first.res = args.res.f32();
        first.y = args.y.as<T>();
        first.tokens = args.tokens;
        first.channels = args.channels;
        first.terms = args.options.projection_terms();
        second.partials =
            project<n(), vector(), true>(first, args.phi.f32(), static_cast<int>(args.coefficients()), args.scratch);
      });
    });
  });
  collapse(second, args.n, args.x.dtype, false);
}

}  // namespace birkhoff::cuda
