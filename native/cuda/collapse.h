// The second kernel of mhcPre and of the seam: folds the projection's ordered partial sums, computes the coefficients,
// and collapses the streams into the branch's input.
#pragma once
#include "cuda/math.h"
#include "cuda/projection.h"
#include "ops/mhc_pre.h"

namespace birkhoff::cuda {

struct CollapseArgs {
  const void* x;  // streams [T, n, C]
  const float *alpha, *bias;
  void* input;
  float *pre, *post, *res, *q, *r;
  ProjectionPartials partials;
  int64_t tokens, channels, splits;
  CoefficientOptions options;
};

// For streams of n, of x's type; head: pre alone. Enqueues; tokens must not be 0.
void collapse(const CollapseArgs& args, int64_t n, DType dtype, bool head);

// Of an entry's arguments, but for the partial sums.
template <class Args>
CollapseArgs collapse_args(const Args& args, const View& x, const View& post, const View& res) {
  return {.x = x.data,
          .alpha = args.alpha.f32(),
          .bias = args.bias.f32(),
          .input = args.input.data,
          .pre = args.pre.f32(),
          .post = post.f32(),
          .res = res.f32(),
          .q = args.q.f32(),
          .r = args.r.f32(),
          .partials = {},
          .tokens = args.tokens,
          .channels = args.channels,
          .splits = ProjectionShape{args.tokens, args.n, args.channels}.splits(),
          .options = args.options};
}

}  // namespace birkhoff::cuda
