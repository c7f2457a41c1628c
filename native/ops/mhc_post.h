// The exit of a connection: residual mixing plus branch output (mHC eq. 3).
//
//   x, y [T, n, C], output f [T, C], post [T, n], res [T, n, n]:   y_ic = sum_j res_ij x_jc + post_i f_c
//
// Backward ("prepare"), in one pass over dy, x and f, before the branch's own backward:
//   df = sum_i post_i dy_i    dpost_i = <dy_i, f>    dres_ij = <dy_i, x_j>    dx_j = sum_i res_ij dy_i
// dx is left out when the connection's finish kernel adds that term itself.
#pragma once
#include "core/checks.h"

namespace birkhoff {

struct MhcPostForwardArgs {
  static constexpr const char* kName = "mhcPost";
  View x, output, post, res, y;
  int64_t tokens, n, channels;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("output", output), field("post", post), field("res", res), field("y", y);
    field("tokens", tokens), field("n", n), field("channels", channels);
  }
  void check() const {
    require_streams(kName, n);
    require_float(kName, "x", x);
    require_size(kName, "x", x, {tokens, n, channels}), require_size(kName, "y", y, {tokens, n, channels});
    require_size(kName, "output", output, {tokens, channels});
    require_size(kName, "post", post, {tokens, n}), require_size(kName, "res", res, {tokens, n, n});
    require_dtype(kName, "output", output, x.dtype), require_dtype(kName, "y", y, x.dtype);
    require_dtype(kName, "post", post, DType::kFloat32), require_dtype(kName, "res", res, DType::kFloat32);
  }
};

struct MhcPostBackwardArgs {
  static constexpr const char* kName = "mhcPost backward";
  View x, output, post, res, grad_y, grad_output, grad_post, grad_res;
  OptionalView grad_x;
  int64_t tokens, n, channels;

  template <class F>
  void fields(F&& field) {
    field("x", x), field("output", output), field("post", post), field("res", res), field("gradY", grad_y);
    field("gradOutput", grad_output), field("gradPost", grad_post), field("gradRes", grad_res), field("gradX", grad_x);
    field("tokens", tokens), field("n", n), field("channels", channels);
  }
  void check() const {
    require_streams(kName, n);
    require_float(kName, "x", x);
    for (const View* view : {&x, &grad_y, static_cast<const View*>(&grad_x)}) {
      require_dtype(kName, "streams", *view, x.dtype);
      require_optional_size(kName, "streams", *view, {tokens, n, channels});
    }
    for (const View* view : {&output, &grad_output}) {
      require_dtype(kName, "output", *view, x.dtype);
      require_size(kName, "output", *view, {tokens, channels});
    }
    for (const View* view : {&post, &res, &grad_post, &grad_res})
      require_dtype(kName, "coefficients", *view, DType::kFloat32);
    require_size(kName, "post", post, {tokens, n}), require_size(kName, "gradPost", grad_post, {tokens, n});
    require_size(kName, "res", res, {tokens, n, n}), require_size(kName, "gradRes", grad_res, {tokens, n, n});
  }
};

}  // namespace birkhoff
