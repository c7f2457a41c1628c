/** The hyper-connection kernels called directly, forward and backward, on one device: for comparisons between devices. */
import { type DType, Tensor } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { spread } from "./random.ts";

export interface KernelCase {
  tokens: number;
  n: number;
  channels: number;
  dtype: "float32" | "bfloat16";
  /** pre alone: the learned contraction. */
  head?: boolean;
  /** Sinkhorn iterations, default 20. */
  iters?: number;
  /** Of the inputs' values. */
  scale?: number;
  /** Standard deviation of the logits of res, about. */
  logits?: number;
  /** Default "float32". */
  projection?: "float32" | "tf32";
  /** Default true: also the seam, and mhcPre of what mhcPost gave. */
  seam?: boolean;
}

/** Inputs of the latest case: drawn once for all devices that it is compared on. */
const drawn = { key: "", arrays: [] as Float32Array[] };

/** Every result of mhcPre, mhcPost, their backwards and the seam, by name; inputs are the same for equal cases. */
export function runKernels(device: string, c: KernelCase): Record<string, Tensor> {
  const { tokens: T, n, channels: C, dtype, head = false, scale = 1, logits = 1 } = c;
  const settings = [1e-6, c.iters ?? 20, 0, 0, c.projection === "tf32" ? 1 : 0] as const;
  const N = head ? n : n * n + 2 * n;
  const key = JSON.stringify([T, n, C, head, scale, logits]);
  if (drawn.key !== key) Object.assign(drawn, { key, arrays: [] });
  let seed = 0;
  const input = (shape: number[], std: number, type: DType = "float32") => {
    drawn.arrays[seed] ??= spread(
      shape.reduce((a, b) => a * b, 1),
      std,
      seed + 1,
    );
    return Tensor.from(drawn.arrays[seed++]!, shape, { dtype: type, device });
  };
  // Poisoned: every element must be written.
  const empty = (shape: number[], type: DType = "float32") => Tensor.full(shape, Number.NaN, { dtype: type, device });
  const x = input([T, n, C], scale, dtype);
  const phi = input([N, n * C], logits / Math.sqrt(n * C));
  const alpha = input([head ? 1 : 3], 1);
  const bias = input([N], logits);
  const enter = (streams: Tensor) => ({
    input: empty([T, C], dtype),
    pre: empty([T, n]),
    post: empty([T, n]),
    res: empty([T, n, n]),
    q: empty([T, N]),
    r: empty([T]),
    streams,
  });
  const pre = (streams: Tensor) => {
    const e = enter(streams);
    const [post, res] = head ? [null, null] : [e.post.handle, e.res.handle];
    native.mhcPreForward(
      streams.handle,
      phi.handle,
      alpha.handle,
      bias.handle,
      e.input.handle,
      e.pre.handle,
      post,
      res,
      e.q.handle,
      e.r.handle,
      T,
      n,
      C,
      ...settings,
    );
    return e;
  };
  const first = pre(x);
  const results: Record<string, Tensor> = { input: first.input, pre: first.pre, q: first.q, r: first.r };
  const gradInput = input([T, C], 1, dtype);
  const gradPre = input([T, n], 1);
  let gradPost: Tensor | undefined;
  let gradRes: Tensor | undefined;
  let gradY: Tensor | undefined;
  if (!head) {
    const output = input([T, C], scale, dtype);
    const y = empty([T, n, C], dtype);
    const connection = [x.handle, output.handle, first.post.handle, first.res.handle] as const;
    native.mhcPostForward(...connection, y.handle, T, n, C);
    gradY = input([T, n, C], 1, dtype);
    gradPost = empty([T, n]);
    gradRes = empty([T, n, n]);
    const gradOutput = empty([T, C], dtype);
    const mixed = empty([T, n, C], dtype);
    native.mhcPostBackward(
      ...connection,
      gradY.handle,
      gradOutput.handle,
      gradPost.handle,
      gradRes.handle,
      mixed.handle,
      T,
      n,
      C,
    );
    Object.assign(results, { post: first.post, res: first.res, y, gradOutput, gradPost, gradRes, mixed });
    if (c.seam ?? true) {
      const merged = empty([T, n, C], dtype);
      const seam = enter(merged);
      native.seamForward(
        ...connection,
        phi.handle,
        alpha.handle,
        bias.handle,
        merged.handle,
        seam.input.handle,
        seam.pre.handle,
        seam.post.handle,
        seam.res.handle,
        seam.q.handle,
        seam.r.handle,
        T,
        n,
        C,
        ...settings,
      );
      const apart = pre(y);
      for (const key of ["streams", "input", "pre", "post", "res", "q", "r"] as const)
        Object.assign(results, { [`seam.${key}`]: seam[key], [`apart.${key}`]: apart[key] });
    }
  }
  const grads = [empty([T, n, C], dtype), empty([N, n * C]), empty([head ? 1 : 3]), empty([N])] as const;
  native.mhcPreBackward(
    x.handle,
    phi.handle,
    alpha.handle,
    bias.handle,
    first.q.handle,
    first.r.handle,
    gradInput.handle,
    gradPre.handle,
    gradPost?.handle ?? null,
    gradRes?.handle ?? null,
    gradY?.handle ?? null,
    grads[0].handle,
    grads[1].handle,
    grads[2].handle,
    grads[3].handle,
    T,
    n,
    C,
    head ? 1 : 0,
    ...settings,
  );
  return Object.assign(results, { gradX: grads[0], gradPhi: grads[1], gradAlpha: grads[2], gradBias: grads[3] });
}
