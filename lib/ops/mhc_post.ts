import { defineOp } from "../autograd.ts";
import { ShapeError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkSameDevice, checkShape, checkTensor, sizeOf } from "../validate.ts";
import { checkBranchOutput } from "./mhc_pre.ts";

/** @internal */
export interface StreamSizes {
  tokens: number;
  n: number;
  channels: number;
}

/** @internal Runs the merge kernel. */
export function mhcPostForward(x: Tensor, output: Tensor, post: Tensor, res: Tensor, sizes: StreamSizes): Tensor {
  const y = Tensor.empty(x.shape, x.dtype, x.device);
  native.mhcPostForward(
    x.handle,
    output.handle,
    post.handle,
    res.handle,
    y.handle,
    sizes.tokens,
    sizes.n,
    sizes.channels,
  );
  return y;
}

/** @internal Runs the prepare kernel; dx only when `withX`. */
export function mhcPostBackward(
  x: Tensor,
  output: Tensor,
  post: Tensor,
  res: Tensor,
  gradY: Tensor,
  withX: boolean,
  sizes: StreamSizes,
): { x: Tensor | undefined; output: Tensor; post: Tensor; res: Tensor } {
  const like = (t: Tensor) => Tensor.empty(t.shape, t.dtype, t.device);
  const out = { x: withX ? like(x) : undefined, output: like(output), post: like(post), res: like(res) };
  native.mhcPostBackward(
    x.handle,
    output.handle,
    post.handle,
    res.handle,
    gradY.handle,
    out.output.handle,
    out.post.handle,
    out.res.handle,
    out.x?.handle ?? null,
    sizes.tokens,
    sizes.n,
    sizes.channels,
  );
  return out;
}

const mhcPostOp = defineOp<[x: Tensor, output: Tensor, post: Tensor, res: Tensor], StreamSizes>({
  name: "mhcPost",
  forward(ctx, [x, output, post, res], sizes) {
    ctx.save(x, output, post, res);
    return mhcPostForward(x, output, post, res, sizes);
  },
  backward(ctx, [grad], sizes) {
    const [x, output, post, res] = ctx.saved as [Tensor, Tensor, Tensor, Tensor];
    const g = mhcPostBackward(x, output, post, res, grad!, ctx.needs[0]!, sizes);
    return [g.x, g.output, g.post, g.res];
  },
});

/**
 * The exit of a connection: y_i = Σ_j res_ij x_j + post_i · output.  mHC (arXiv:2512.24880) eq. 3.
 *
 * @param x       [..., n, C] float32 or bfloat16, n = 1, 2, 4 or 8
 * @param output  [..., C], the branch's output, in x's dtype
 * @param post    [..., n] float32
 * @param res     [..., n, n] float32; row = destination stream, column = source stream
 * @returns       [..., n, C] in x's dtype
 * @throws {ShapeError | DTypeError | DeviceError | DisposedError} a tensor does not fit
 */
export function mhcPost(x: Tensor, output: Tensor, post: Tensor, res: Tensor): Tensor {
  const fn = "mhcPost";
  checkTensor(fn, "x", x, { dtype: ["float32", "bfloat16"], minRank: 2 });
  const [n, channels] = x.shape.slice(-2) as [number, number];
  if (![1, 2, 4, 8].includes(n))
    throw new ShapeError(`${fn}: x has shape [${x.shape.join(", ")}], want [..., n, C] with n = 1, 2, 4 or 8`);
  const leading = x.shape.slice(0, -2);
  checkBranchOutput(fn, "output", x, output);
  checkTensor(fn, "post", post, { dtype: ["float32"] });
  checkTensor(fn, "res", res, { dtype: ["float32"] });
  checkShape(fn, "post", post, [...leading, n]);
  checkShape(fn, "res", res, [...leading, n, n]);
  checkSameDevice(fn, { x, output, post, res });
  return mhcPostOp([x, output, post, res], { tokens: sizeOf(fn, "x", leading), n, channels });
}
