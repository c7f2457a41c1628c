"""The hyper-connection of birkhoff's `connect` in PyTorch, for the peers of the benchmark.

Same maths as native/ops/mhc_pre.h and mhc_post.h, paper convention, branch F(u) = u. PyTorch has two ways to write it: as few large
CALLS (bmm, baddbmm; the faster one for eager), or as elementwise products and sums that the compiler can fuse into LOOPS.
Streams may be bfloat16; coefficients are float32, as in birkhoff.
"""

import torch


def groups(n: int, device):
    """Which alpha each coefficient belongs to. Made once: making it copies from the host, which waits for a GPU."""
    return torch.tensor([0] * n + [1] * n + [2] * (n * n), device=device)


def sinkhorn(logits, iters: int):
    # The shift cancels, so it needs no gradient.
    res = torch.exp(logits - logits.detach().amax((-2, -1), keepdim=True))
    for _ in range(iters):
        res = res / res.sum(-2, keepdim=True)
        res = res / res.sum(-1, keepdim=True)
    return res


def mean_square(v, loops: bool):
    if loops:
        return v.square().mean(-1, keepdim=True)
    return torch.linalg.vecdot(v, v).unsqueeze(-1) / v.shape[-1]


def coefficients(x, phi, alpha, bias, group, iters: int, norm_eps: float, loops: bool):
    tokens, n, channels = x.shape
    v = x.reshape(tokens, n * channels).float()
    r = torch.rsqrt(mean_square(v, loops) + norm_eps)
    z = alpha[group] * (r * (v @ phi.t())) + bias
    pre = torch.sigmoid(z[:, :n])
    post = 2 * torch.sigmoid(z[:, n : 2 * n])
    return pre, post, sinkhorn(z[:, 2 * n :].view(tokens, n, n), iters)


def collapse(pre, x, loops: bool):
    if loops:
        return (pre.unsqueeze(-1) * x).sum(1).to(x.dtype)
    return torch.bmm(pre.to(x.dtype).unsqueeze(1), x).squeeze(1)


def merge(x, output, post, res, loops: bool):
    if loops:
        return ((res.unsqueeze(-1) * x.unsqueeze(1)).sum(2) + post.unsqueeze(-1) * output.unsqueeze(1)).to(x.dtype)
    spread = (post.unsqueeze(-1) * output.unsqueeze(1)).to(x.dtype)
    return torch.baddbmm(spread, res.to(x.dtype), x)


def enter(x, phi, alpha, bias, group, iters: int, norm_eps: float, loops: bool):
    pre, post, res = coefficients(x, phi, alpha, bias, group, iters, norm_eps, loops)
    return collapse(pre, x, loops), post, res


def connection(x, phi, alpha, bias, group, iters: int, norm_eps: float, loops: bool):
    u, post, res = enter(x, phi, alpha, bias, group, iters, norm_eps, loops)
    return merge(x, u, post, res, loops)
