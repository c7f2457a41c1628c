"""The connection of birkhoff's `connect` in PyTorch, as a peer of the benchmark; eager or compiled.

The maths, and its two forms "calls" and "loops", are in hyper_connection_torch.py.
Speaks lines with peers.ts:
    python3 connection_torch.py eager|compiled calls|loops FOLDER      FOLDER holds case.json and x, phi, alpha, bias, gradY as raw float32
    -> ready {"description": ...}     after compiling and a first pass
    run K -> times MS MS ...          K timed passes, after one untimed
    check -> checked                  writes y, dx, dphi, dalpha, dbias to FOLDER, named PREFIX.NAME
"""

import json
import os
import sys
import time


def main() -> None:
    mode, form, folder = sys.argv[1:4]
    with open(os.path.join(folder, "case.json"), encoding="utf-8") as file:
        case = json.load(file)
    # Before torch is loaded: its own thread pool reads this.
    os.environ["OMP_NUM_THREADS"] = str(case["threads"])
    import torch

    torch.set_num_threads(case["threads"])
    tokens, n, channels = case["tokens"], case["n"], case["channels"]
    iters, norm_eps = case["iters"], case["normEps"]
    width, coefficients = n * channels, n * n + 2 * n

    def load(name: str, *shape: int):
        size = 1
        for extent in shape:
            size *= extent
        return torch.from_file(os.path.join(folder, name), size=size, dtype=torch.float32).clone().view(shape)

    x = load("x", tokens, n, channels).requires_grad_()
    phi = load("phi", coefficients, width).requires_grad_()
    alpha = load("alpha", 3).requires_grad_()
    bias = load("bias", coefficients).requires_grad_()
    grad_y = load("gradY", tokens, n, channels)
    from hyper_connection_torch import connection, groups

    compiled = torch.compile(connection) if mode == "compiled" else connection
    group, loops = groups(n, "cpu"), form == "loops"

    def run():
        y = compiled(x, phi, alpha, bias, group, iters, norm_eps, loops)
        return y, torch.autograd.grad(y, (x, phi, alpha, bias), grad_y)

    start = time.perf_counter()
    run()
    first = time.perf_counter() - start
    threads = torch.get_num_threads()
    info = {"description": f"PyTorch {torch.__version__} {mode}, {form}, {threads} threads", "first_pass_s": round(first, 1)}
    print("ready", json.dumps(info), flush=True)

    for line in sys.stdin:
        command, *arguments = line.split()
        if command == "run":
            run()
            times = []
            for _ in range(int(arguments[0])):
                start = time.perf_counter()
                run()
                times.append(f"{(time.perf_counter() - start) * 1e3:.4f}")
            print("times", *times, flush=True)
        elif command == "check":
            y, grads = run()
            for name, tensor in zip(("y", "dx", "dphi", "dalpha", "dbias"), (y, *grads), strict=True):
                tensor.detach().contiguous().numpy().tofile(os.path.join(folder, f"{arguments[0]}.{name}"))
            print("checked", flush=True)
        elif command == "quit":
            return


main()
