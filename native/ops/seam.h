// The seam between two connections: the exit of one and the entry of the next in one pass, so that the streams between
// them are written once and not read back (mHC eq. 3, then 14-19).
//
//   x, y [T, n, C], output f [T, C], post [T, n], res [T, n, n]:   y_ic = sum_j res_ij x_jc + post_i f_c
//   y, phi [N, K], alpha [3], bias [N], N = n^2 + 2n, K = nC:      input [T, C], pre, post_next [T, n],
//   res_next [T, n, n], q [T, N], r [T] as mhcPre of y
//
// Bit for bit what mhcPost and then mhcPre give. There is no backward of its own: a connection's prepare and finish
// have the branch between them.
#pragma once
#include "ops/mhc_pre.h"

namespace birkhoff {

struct SeamForwardArgs {
  static constexpr const char* kName = "seam";
  View x, output, post, res;  // of the connection that ends
  View phi, alpha, bias;      // of the one that begins
  View y, input, pre, post_next, res_next, q, r;
  int64_t tokens, n, channels;
  CoefficientOptions options;  // of the one that begins
  void* scratch;

  int64_t coefficients() const { return n * n + 2 * n; }
  int64_t scratch_bytes() const { return packed_phi_bytes(n, channels, coefficients()); }
  int64_t cuda_scratch_bytes() const { return ProjectionShape{tokens, n, channels}.scratch_bytes(); }

  template <class F>
  void fields(F&& field) {
    field("x", x), field("output", output), field("post", post), field("res", res);
    field("phi", phi), field("alpha", alpha), field("bias", bias);
    field("y", y), field("input", input), field("pre", pre), field("postNext", post_next), field("resNext", res_next);
    field("q", q), field("r", r);
    field("tokens", tokens), field("n", n), field("channels", channels), options.fields(field);
  }
  void check() const {
    require_streams(kName, n);
    require_float(kName, "x", x);
    for (const View* view : {&output, &y, &input}) require_dtype(kName, "output, y or input", *view, x.dtype);
    for (const View* view : {&post, &res, &phi, &alpha, &bias, &pre, &post_next, &res_next, &q, &r})
      require_dtype(kName, "coefficients", *view, DType::kFloat32);
    require_size(kName, "x", x, {tokens, n, channels}), require_size(kName, "y", y, {tokens, n, channels});
    require_size(kName, "output", output, {tokens, channels}), require_size(kName, "input", input, {tokens, channels});
    require_size(kName, "post", post, {tokens, n}), require_size(kName, "res", res, {tokens, n, n});
    require_size(kName, "phi", phi, {coefficients(), n, channels});
    require_size(kName, "alpha", alpha, {3}), require_size(kName, "bias", bias, {coefficients()});
    require_size(kName, "pre", pre, {tokens, n}), require_size(kName, "postNext", post_next, {tokens, n});
    require_size(kName, "resNext", res_next, {tokens, n, n});
    require_size(kName, "q", q, {tokens, coefficients()}), require_size(kName, "r", r, {tokens});
    options.check(kName);
  }
};

}  // namespace birkhoff
