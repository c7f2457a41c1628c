// The entry of a connection: coefficients and branch input, in one read of the streams (mHC eq. 14-19).
//
//   x [T, n, C], phi [N, K], alpha [groups], bias [N];  K = nC, v = vec(x)
//   q = v phi^T    s = sum v^2    r = (s/K + eps_norm)^(-1/2)    m = r q    z = alpha_g m + bias
//   pre = sigma(z_pre)   post = 2 sigma(z_post)   res = Sinkhorn(z_res)   input_c = sum_i pre_i x_ic
//
// Rows of phi: pre | post | res (res row-major), N = n^2 + 2n, three groups. The head of a network (method, "learned"
// contract) has pre alone: N = n, one group, post and res absent. q and r are kept for backward, which rebuilds the
// rest from them.
//
// Backward ("finish"), all four terms of dx in float32, one rounding; dphi in the same read of x:
//   dx_j = sum_i res_ij dy_i + pre_j du + [(r dm) phi]_j - (r^2/K) <dm, m> x_j      dphi = sum_t (r dm)^T v
// dy, the gradient of the connection's result, is absent when mhcPre stands alone.
#pragma once
#include "core/checks.h"
#include "ops/sinkhorn.h"

namespace birkhoff {

// How exactly q is computed on a GPU: phi as three bfloat16 terms (24 bits), or as two (16; TF32 has 11).
// Backward has no part in it: it takes q as it is.
enum class Projection : int32_t { kFloat32 = 0, kTf32 = 1 };

struct CoefficientOptions {
  double norm_eps;
  int64_t iters;
  double sinkhorn_eps;
  int64_t convention;
  int64_t projection;

  int projection_terms() const { return static_cast<Projection>(projection) == Projection::kTf32 ? 2 : 3; }

  template <class F>
  void fields(F&& field) {
    field("normEps", norm_eps), field("iters", iters), field("sinkhornEps", sinkhorn_eps),
        field("convention", convention), field("projection", projection);
  }
  void check(const char* name) const {
    require_range(name, "iters", iters, 1, kMaxSinkhornIters);
    require_range(name, "projection", projection, 0, 1);
  }
};

// The sizes of the projection on a GPU: phi as three bfloat16 terms, padded to chunks of channels and tiles of 8 rows,
// and the partial sums of ordered ranges of columns. Nothing but the scratch's size depends on the number of tokens.
struct ProjectionShape {
  int64_t tokens, n, channels;
  // The tensor cores sum 128 of the nC columns at a time: of four streams 32 channels, of fewer streams more.
  int64_t chunk_channels() const { return n < 4 ? 128 / n : 32; }
  int64_t chunks() const { return (channels + chunk_channels() - 1) / chunk_channels(); }
  int64_t splits() const { return channels <= 512 ? 1 : channels > 16 * 512 ? 16 : (channels + 511) / 512; }
  int64_t chunks_per_split() const { return (chunks() + splits() - 1) / splits(); }
  int64_t row_tiles() const { return (n * n + 2 * n + 7) / 8; }
  int64_t packed_bytes() const {
    return checked_product({chunks(), n * chunk_channels() / 32, 2 * 3, row_tiles(), 256});
  }
  int64_t scratch_bytes() const { return packed_bytes() + checked_product({4, splits(), tokens, row_tiles() * 8 + 1}); }
};

// The factors of what one stream of a token adds up to dx: res_ij of all i, pre_j, that of x_j, and zeros up to whole
// 16 bytes.
constexpr int64_t finish_weights(int64_t n) {
  return (n + 2 + 3) / 4 * 4;
}

// The sizes of the backward on a GPU, where everything is cut into tiles of tensor cores: 16 tokens, 16 rows of phi,
// groups of columns. The parts' sums of dphi are added in order.
struct FinishShape {
  int64_t tokens, n, channels;
  int64_t rows() const { return n * n + 2 * n; }
  int64_t row_steps() const { return (rows() + 15) / 16; }
  int64_t lane_columns() const { return n < 8 ? 8 : 4; }
  int64_t column_groups() const { return (channels + 8 * lane_columns() - 1) / (8 * lane_columns()); }
  int64_t token_tiles() const { return (tokens + 15) / 16; }
  int64_t parts() const { return tokens <= 128 ? 1 : tokens > 16 * 128 ? 16 : (tokens + 127) / 128; }
  int64_t tiles_per_part() const { return (token_tiles() + parts() - 1) / parts(); }

  // In the order of the scratch memory, in bytes.
  int64_t phi_bytes() const { return checked_product({column_groups(), n, lane_columns() / 2, row_steps(), 3 * 512}); }
  int64_t gradient_bytes() const { return checked_product({token_tiles(), row_steps(), 3 * 512}); }  // twice
  int64_t sum_bytes() const { return checked_product({token_tiles(), rows() + 3, 8}); }
  int64_t weight_bytes() const { return checked_product({tokens, n, finish_weights(n), 4}); }
  int64_t row_gradient_bytes() const { return checked_product({tokens, row_steps(), 64}); }
  int64_t grad_pre_bytes() const { return checked_product({tokens, n, 4}); }
  int64_t partial_bytes() const { return checked_product({parts(), rows(), n, channels, 4}); }
  int64_t scratch_bytes() const {
    return phi_bytes() + 2 * gradient_bytes() + sum_bytes() + weight_bytes() + row_gradient_bytes() + grad_pre_bytes() +
           partial_bytes() + 64;
  }
};

// On the CPU: phi, packed; lines padded to the widest vector.
inline int64_t packed_phi_bytes(int64_t n, int64_t channels, int64_t coefficients) {
  return checked_product({n * channels, coefficients + 64, 4}) + 64;
}

struct MhcPreForwardArgs {
  static constexpr const char* kName = "mhcPre";
  View x, phi, alpha, bias, input, pre;
  OptionalView post, res;
  View q, r;
  int64_t tokens, n, channels;
  CoefficientOptions options;
  void* scratch;

  bool head() const { return !post; }
  int64_t coefficients() const { return head() ? n : n * n + 2 * n; }
  int64_t scratch_bytes() const { return packed_phi_bytes(n, channels, coefficients()); }
  int64_t cuda_scratch_bytes() const { return ProjectionShape{tokens, n, channels}.scratch_bytes(); }

  template <class F>
  void fields(F&& field) {
    field("x", x), field("phi", phi), field("alpha", alpha), field("bias", bias), field("input", input),
        field("pre", pre);
    field("post", post), field("res", res), field("q", q), field("r", r);
    field("tokens", tokens), field("n", n), field("channels", channels), options.fields(field);
  }
  void check() const {
    require_streams(kName, n);
    require_float(kName, "x", x), require_size(kName, "x", x, {tokens, n, channels});
    require_dtype(kName, "input", input, x.dtype), require_size(kName, "input", input, {tokens, channels});
    for (const View* view :
         {&phi, &alpha, &bias, &pre, static_cast<const View*>(&post), static_cast<const View*>(&res), &q, &r})
      require_dtype(kName, "coefficients", *view, DType::kFloat32);
    if (bool(post) != bool(res)) throw Error(kTypeError, "mhcPre: post and res must both be given, or neither");
    require_size(kName, "phi", phi, {coefficients(), n, channels});
    require_size(kName, "alpha", alpha, {head() ? 1 : 3}), require_size(kName, "bias", bias, {coefficients()});
    require_size(kName, "pre", pre, {tokens, n}), require_optional_size(kName, "post", post, {tokens, n});
    require_optional_size(kName, "res", res, {tokens, n, n});
    require_size(kName, "q", q, {tokens, coefficients()}), require_size(kName, "r", r, {tokens});
    options.check(kName);
  }
};

struct MhcPreBackwardArgs {
  static constexpr const char* kName = "mhcPre backward";
  View x, phi, alpha, bias, q, r;
  OptionalView grad_input, grad_pre, grad_post, grad_res, grad_output;  // du, dpre, dpost, dres, dy
  View grad_x, grad_phi, grad_alpha, grad_bias;
  int64_t tokens, n, channels;
  int64_t head_only;  // 1: pre alone
  CoefficientOptions options;
  void* scratch;

  bool head() const { return head_only != 0; }
  int64_t coefficients() const { return head() ? n : n * n + 2 * n; }
  // Token ranges whose partial dphi, dalpha, dbias are summed in order. Depends on the sizes only, never on the
  // machine.
  int64_t partials() const {
    const int64_t wanted = tokens / 128;
    return wanted < 1 ? 1 : wanted > 32 ? 32 : wanted;
  }
  // One packed copy of phi and one of dphi per partial; column blocks padded to the widest vector pair.
  int64_t packed_floats() const { return checked_product({n, channels + 32, coefficients()}); }
  int64_t scratch_bytes() const {
    return checked_product({packed_floats(), 1 + partials(), 4}) +
           checked_product({partials(), coefficients() + 3, 8}) + 256;
  }
  int64_t cuda_scratch_bytes() const { return FinishShape{tokens, n, channels}.scratch_bytes(); }

  template <class F>
  void fields(F&& field) {
    field("x", x), field("phi", phi), field("alpha", alpha), field("bias", bias), field("q", q), field("r", r);
    field("gradInput", grad_input), field("gradPre", grad_pre), field("gradPost", grad_post),
        field("gradRes", grad_res);
    field("gradOutput", grad_output), field("gradX", grad_x), field("gradPhi", grad_phi),
        field("gradAlpha", grad_alpha);
    field("gradBias", grad_bias), field("tokens", tokens), field("n", n), field("channels", channels);
    field("headOnly", head_only), options.fields(field);
  }
  void check() const {
    require_streams(kName, n);
    for (const View* view : {&x, static_cast<const View*>(&grad_output), &grad_x}) {
      require_dtype(kName, "x, gradOutput or gradX", *view, x.dtype);
      require_optional_size(kName, "x, gradOutput or gradX", *view, {tokens, n, channels});
    }
    require_float(kName, "x", x);
    require_dtype(kName, "gradInput", grad_input, x.dtype);
    require_optional_size(kName, "gradInput", grad_input, {tokens, channels});
    for (const View* view :
         {&phi, &alpha, &bias, &q, &r, static_cast<const View*>(&grad_pre), static_cast<const View*>(&grad_post),
          static_cast<const View*>(&grad_res), &grad_phi, &grad_alpha, &grad_bias})
      require_dtype(kName, "coefficients", *view, DType::kFloat32);
    require_size(kName, "phi", phi, {coefficients(), n, channels});
    require_size(kName, "gradPhi", grad_phi, {coefficients(), n, channels});
    require_size(kName, "alpha", alpha, {head() ? 1 : 3}),
        require_size(kName, "gradAlpha", grad_alpha, {head() ? 1 : 3});
    require_size(kName, "bias", bias, {coefficients()}), require_size(kName, "gradBias", grad_bias, {coefficients()});
    require_size(kName, "q", q, {tokens, coefficients()}), require_size(kName, "r", r, {tokens});
    require_optional_size(kName, "gradPre", grad_pre, {tokens, n});
    require_optional_size(kName, "gradPost", grad_post, {tokens, n});
    require_optional_size(kName, "gradRes", grad_res, {tokens, n, n});
    if (head() && (grad_post || grad_res || grad_output))
      throw Error(kTypeError, "mhcPre backward: the head has no post, res or output");
    options.check(kName);
  }
};

}  // namespace birkhoff

#ifdef BIRKHOFF_MATH
namespace BIRKHOFF_MATH {

// deepseek-v4 adds 1e-6 to pre.
MHC_HD float pre_shift(const CoefficientOptions& options) {
  return static_cast<Convention>(options.convention) == Convention::kDeepSeekV4 ? 1e-6f : 0.0f;
}

// Coefficients of one token per lane. m[k]: r q of phi's row k; z never leaves registers. Res is left alone for the
// head. sums: NoSums, or Sums for the backward.
template <int n, bool Head, class V>
struct Coefficients {
  static constexpr int kCount = Head ? n : n * n + 2 * n;
  V pre[n];  // sigma(z), without the shift
  V post[n];
  V res[n * n];

  // Of res, from m.
  template <class M>
  struct Logits {
    const M& m;
    const float* alpha;
    const float* bias;
    MHC_HD V operator()(int k) const {
      return vfma(vbroadcast<V>(alpha[2]), m[2 * n + k], vbroadcast<V>(bias[2 * n + k]));
    }
  };

  template <class M, class Kept>
  MHC_HD void compute(const M& m, const float* alpha, const float* bias, const CoefficientOptions& options, Kept sums) {
    MHC_UNROLL(4)
    for (int i = 0; i < n; ++i) pre[i] = vsigmoid(vfma(vbroadcast<V>(alpha[0]), m[i], vbroadcast<V>(bias[i])));
    if constexpr (!Head) {
      MHC_UNROLL(4)
      for (int i = 0; i < n; ++i)
        post[i] = 2.0f * vsigmoid(vfma(vbroadcast<V>(alpha[1]), m[n + i], vbroadcast<V>(bias[n + i])));
      const Logits<M> logits{m, alpha, bias};
      MHC_UNROLL(16)
      for (int k = 0; k < n * n; ++k) res[k] = logits(k);
      sinkhorn_forward<n>(res, logits, static_cast<int>(options.iters),
                          vbroadcast<V>(static_cast<float>(options.sinkhorn_eps)),
                          static_cast<Convention>(options.convention), sums);
    }
  }

  // Gradients of pre, post, res in; of z out, in the order of phi's rows. Consumes res. m, alpha, bias: as in compute.
  template <class M>
  MHC_HD void backward(const M& m, const float* alpha, const float* bias, const V (&grad_pre)[n],
                       const V (&grad_post)[n], V (&grad_res)[n * n], const CoefficientOptions& options, Sums<V> sums,
                       V (&dz)[kCount]) {
    MHC_UNROLL(4)
    for (int i = 0; i < n; ++i) dz[i] = grad_pre[i] * pre[i] * (1.0f - pre[i]);
    if constexpr (!Head) {
      MHC_UNROLL(4)
      for (int i = 0; i < n; ++i) dz[n + i] = grad_post[i] * post[i] * (1.0f - 0.5f * post[i]);
      sinkhorn_backward<n>(res, grad_res, Logits<M>{m, alpha, bias}, static_cast<int>(options.iters),
                           vbroadcast<V>(static_cast<float>(options.sinkhorn_eps)),
                           static_cast<Convention>(options.convention), sums);
      MHC_UNROLL(16)
      for (int k = 0; k < n * n; ++k) dz[2 * n + k] = grad_res[k];
    }
  }
};

// Group of phi's row k: 0 pre, 1 post, 2 res.
template <int n>
MHC_HD constexpr int coefficient_group(int k) {
  return k < n ? 0 : k < 2 * n ? 1 : 2;
}

}  // namespace BIRKHOFF_MATH
#endif
