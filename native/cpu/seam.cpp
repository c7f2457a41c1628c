#include "cpu/kernels.h"

namespace birkhoff::cpu::BIRKHOFF_ISA {

void seam_forward(const SeamForwardArgs& a) {
  const MhcPostForwardArgs exit = {a.x, a.output, a.post, a.res, a.y, a.tokens, a.n, a.channels};
  mhc_post_forward(exit);
  MhcPreForwardArgs entry = {};
  entry.x = a.y, entry.phi = a.phi, entry.alpha = a.alpha, entry.bias = a.bias;
  entry.input = a.input, entry.pre = a.pre, entry.q = a.q, entry.r = a.r;
  static_cast<View&>(entry.post) = a.post_next, static_cast<View&>(entry.res) = a.res_next;
  entry.tokens = a.tokens, entry.n = a.n, entry.channels = a.channels, entry.options = a.options;
  entry.scratch = a.scratch;
  mhc_pre_forward(entry);
}

}  // namespace birkhoff::cpu::BIRKHOFF_ISA
