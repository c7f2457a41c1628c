import { defineOp } from "../autograd.ts";
import { ArgumentTypeError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkOptions, checkTensor, type Keys, show, sizeOf } from "../validate.ts";
import { type ConnectionOptions, type ConnectionParameters, connectionSettings, headOp } from "./mhc_pre.ts";

type ContractOptions = Pick<ConnectionOptions, "convention" | "normEps" | "projection">;

const optionKeys: Keys<ContractOptions> = { convention: "checked", normEps: "checked", projection: "checked" };

const contractOp = defineOp<[x: Tensor], { tokens: number; n: number; channels: number; scale: number }>({
  name: "contract",
  forward(_ctx, [x], { tokens, n, channels, scale }) {
    const h = Tensor.empty([...x.shape.slice(0, -2), channels], x.dtype, x.device);
    native.contract(h.handle, x.handle, tokens, n, channels, scale);
    return h;
  },
  backward(_ctx, [grad], { tokens, n, channels, scale }) {
    const out = Tensor.empty([...grad!.shape.slice(0, -1), n, channels], grad!.dtype, grad!.device);
    native.expand(grad!.handle, out.handle, tokens, n, channels, scale);
    return [out];
  },
});

/**
 * Joins the streams: the exit of a network of streams.
 *
 * "sum": Σ_i x_i (HC).  "mean": Σ_i x_i / n.  Parameters: Σ_i pre_i x_i with pre = σ(α·r·vφᵀ + b) (+ 1e-6 for "deepseek-v4").
 *
 * @param x    [..., n, C] float32 or bfloat16; learned: n = 1, 2, 4 or 8
 * @param how  "sum", "mean", or { phi [n, n·C], alpha [1], bias [n] } float32
 * @returns    [..., C] in x's dtype
 * @throws {TypeError} unknown `how` or option   @throws {ShapeError | DTypeError | DeviceError | DisposedError} a tensor does not fit
 */
export function contract(x: Tensor, how: "sum" | "mean" | ConnectionParameters, options: ContractOptions = {}): Tensor {
  const fn = "contract";
  checkOptions(fn, options, optionKeys);
  checkTensor(fn, "x", x, { dtype: ["float32", "bfloat16"], minRank: 2 });
  if (typeof how === "object" && how !== null) {
    const settings = connectionSettings(fn, x, how, options, true);
    return headOp([x, how.phi, how.alpha, how.bias], settings);
  }
  if (how !== "sum" && how !== "mean")
    throw new ArgumentTypeError(`${fn}: how is ${show(how)}, want "sum", "mean" or { phi, alpha, bias }`);
  const [n, channels] = x.shape.slice(-2) as [number, number];
  const tokens = sizeOf(fn, "x", x.shape.slice(0, -2));
  return contractOp([x], { tokens, n, channels, scale: how === "sum" ? 1 : 1 / n });
}
