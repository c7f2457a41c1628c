"""Hyper-connection ops in PyTorch on a GPU, eager and compiled, timed by events with a cold L2 as birkhoff's own.

Speaks lines with torch_ops.ts:
    python3 ops_torch.py FLUSH_BYTES
    -> ready {"description": ...}
    case {"op": ..., "tokens": ..., "n": ..., "channels": ..., "dtype": ...}  -> prepared {"forms": [...], "failed": {form: reason}}
    run K FORM -> times MS MS ...
Products of float32 may use TF32, which is faster and less exact than what birkhoff computes. Without a GPU everything runs on the
CPU, to see that it does; times mean nothing then.
"""

import json
import math
import os
import sys
import time

import torch
from hyper_connection_torch import connection, enter, groups, merge, sinkhorn

ITERS, NORM_EPS = 20, 1e-6
# The form that the compiler likes better depends on the op: the faster one is the peer to beat.
FORMS = ("eager calls", "compiled calls", "compiled loops")
GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"

torch.set_float32_matmul_precision("high")
torch._dynamo.config.cache_size_limit = 1 << 16
# Backward is run again and again over one graph.
torch._functorch.config.donated_buffer = False


def operation(case: dict, compile_it: bool, loops: bool):
    """A function without arguments that runs the op once."""
    tokens, n, channels = case["tokens"], case["n"], case["channels"]
    dtype = getattr(torch, case["dtype"])

    def normal(*shape: int, dtype=torch.float32, std: float = 1.0):
        return (torch.randn(shape, device=DEVICE) * std).to(dtype)

    def compiled(function):
        return torch.compile(function, dynamic=False) if compile_it else function

    if case["op"].startswith("sinkhorn"):
        logits = normal(tokens, n, n)
        project = compiled(lambda x: sinkhorn(x, ITERS))
        if case["op"] == "sinkhorn":
            return lambda: project(logits)
        logits.requires_grad_()
        cotangent, res = normal(tokens, n, n), project(logits)
        return lambda: torch.autograd.grad(res, logits, cotangent, retain_graph=True)

    width, rows = n * channels, n * n + 2 * n
    x = normal(tokens, n, channels, dtype=dtype)
    if case["op"] == "expand":
        spread = compiled(lambda h: h.unsqueeze(1).expand(-1, n, -1).clone())
        return lambda h=normal(tokens, channels, dtype=dtype): spread(h)
    if case["op"] == "contract":
        total = compiled(lambda x: x.sum(1))
        return lambda: total(x)

    output = normal(tokens, channels, dtype=dtype)
    post, res = normal(tokens, n), normal(tokens, n, n, std=1 / math.sqrt(n))
    if case["op"] == "mhcPost":
        leave = compiled(merge)
        return lambda: leave(x, output, post, res, loops)

    parameters = normal(rows, width, std=1 / math.sqrt(width)), normal(3, std=0.7), normal(rows, std=0.7)
    group = groups(n, DEVICE)
    if case["op"] == "mhcPre":
        begin = compiled(enter)
        return lambda: begin(x, *parameters, group, ITERS, NORM_EPS, loops)
    if case["op"] == "seam":

        def both(x, output, post, res, *parameters):
            y = merge(x, output, post, res, loops)
            return y, *enter(y, *parameters, group, ITERS, NORM_EPS, loops)

        seam = compiled(both)
        return lambda: seam(x, output, post, res, *parameters)

    leaves = [t.requires_grad_() for t in (x, *parameters)]
    cotangent, connect = normal(tokens, n, channels, dtype=dtype), compiled(connection)

    def forward():
        return connect(*leaves, group, ITERS, NORM_EPS, loops)

    if case["op"] == "connect":
        return lambda: torch.autograd.grad(forward(), leaves, cotangent)
    if case["op"] == "connectBackward":
        y = forward()
        return lambda: torch.autograd.grad(y, leaves, cotangent, retain_graph=True)
    raise ValueError(f"unknown op {case['op']}")


def main() -> None:
    written, read = (torch.zeros(int(size) // 4, device=DEVICE) for size in sys.argv[1:3])

    def timed(run) -> float:
        written.add_(1)
        read.sum()  # else the sample would write back what is left of it in L2
        if not GPU:
            start = time.perf_counter()
            run()
            return (time.perf_counter() - start) * 1e3
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    where = torch.cuda.get_device_name() if GPU else f"CPU, {os.cpu_count()} cores"
    print("ready", json.dumps({"description": f"PyTorch {torch.__version__}, {where}", "first_pass_s": 0}), flush=True)
    runs: dict = {}
    for line in sys.stdin:
        command, _, rest = line.strip().partition(" ")
        if command == "case":
            case, failed = json.loads(rest), {}
            runs.clear()
            torch._dynamo.reset()
            if GPU:
                torch.cuda.empty_cache()
            for form in FORMS:
                mode, style = form.split()
                try:
                    run = operation(case, mode == "compiled", style == "loops")
                    for _ in range(3):
                        timed(run)
                    runs[form] = run
                except Exception as error:  # no compiler, no memory: said, and the others go on
                    failed[form] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
            print("prepared", json.dumps({"forms": list(runs), "failed": failed}), flush=True)
        elif command == "run":
            count, _, form = rest.partition(" ")
            print("times", *(f"{timed(runs[form]):.6f}" for _ in range(int(count))), flush=True)
        elif command == "quit":
            return


main()
