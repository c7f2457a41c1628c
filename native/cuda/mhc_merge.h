// The merge of one connection for eight channels of one token: y_ic = post_i f_c + sum_j res_ij x_jc, j ascending. One
// definition for mhcPost and the seam, so that both give the same bits.
#pragma once
#include "cuda/math.h"

namespace birkhoff::cuda {

template <int n, int Width, class Post, class Res>
__device__ __forceinline__ void merge_stream(int i, const float (&x)[n][Width], const float (&f)[Width],
                                             const Post& post, const Res& res, float (&y)[Width]) {
#pragma unroll
  for (int k = 0; k < Width; ++k) y[k] = post[i] * f[k];
#pragma unroll
  for (int j = 0; j < n; ++j)
#pragma unroll
    for (int k = 0; k < Width; ++k) y[k] = vfma(res[i * n + j], x[j][k], y[k]);
}

}  // namespace birkhoff::cuda
