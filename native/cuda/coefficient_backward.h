// The first half of mhcPre's backward: from the gradients of the coefficients to those of phi's product, in the form
// that the second half ("finish") multiplies them.
#pragma once
#include "cuda/math.h"
#include "ops/mhc_pre.h"

namespace birkhoff::cuda {

template <int n>
inline constexpr int kFinishWeights = static_cast<int>(finish_weights(n));

// Scratch memory of the backward; sizes in FinishShape.
struct FinishScratch {
  uint4* phi;            // [column group][stream][column pair][row step][term][lane]: left operand of dx
  uint4* of_rows;        // [token tile][row step][term][lane]: r dm, operand of dphi for two tiles of eight rows
  uint4* of_tokens;      // the same: operand of dx for the two halves of the tokens
  double* sums;          // [token blocks][rows + 3]: dbias, then dalpha
  float* weights;        // [T][stream j][kFinishWeights]: res_ij of all i, pre_j, -(r^2 / K) <dm, m>
  float* row_gradients;  // [T][16 row steps]: r dm
  float* grad_pre;       // [T][n]: <du, x_i>
  float* partials;       // [parts][rows][n C]: of dphi

  FinishScratch(const FinishShape& shape, void* scratch);
};

// Fills everything but phi and partials, and gives dalpha and dbias.
void coefficient_backward(const MhcPreBackwardArgs& args, const FinishScratch& scratch);

}  // namespace birkhoff::cuda
