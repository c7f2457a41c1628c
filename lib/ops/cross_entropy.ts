import { defineOp } from "../autograd.ts";
import { ShapeError } from "../errors.ts";
import { native } from "../native.ts";
import { Tensor } from "../tensor.ts";
import { checkSameDevice, checkShape, checkTensor } from "../validate.ts";

const crossEntropyOp = defineOp<[logits: Tensor, targets: Tensor], { tokens: number; classes: number }>({
  name: "crossEntropy",
  forward(ctx, [logits, targets], { tokens, classes }) {
    const logSumExp = Tensor.empty([tokens], "float32", logits.device);
    const loss = Tensor.empty([], "float32", logits.device);
    native.crossEntropyForward(logits.handle, targets.handle, logSumExp.handle, loss.handle, tokens, classes);
    ctx.save(logits, targets, logSumExp);
    return loss;
  },
  backward(ctx, [grad], { tokens, classes }) {
    const [logits, targets, logSumExp] = ctx.saved as [Tensor, Tensor, Tensor];
    const out = Tensor.empty(logits.shape, logits.dtype, logits.device);
    native.crossEntropyBackward(
      logits.handle,
      targets.handle,
      logSumExp.handle,
      grad!.handle,
      out.handle,
      tokens,
      classes,
    );
    return [out, undefined];
  },
});

/**
 * Mean cross entropy of class targets, fused with the softmax: neither it nor the logarithms are stored.
 *
 * loss = mean over tokens of (log Σ exp(logits) − logits[target]), in nats;  dlogits = (softmax(logits) − onehot) · dloss / tokens
 *
 * @param logits   [..., V] float32 or bfloat16
 * @param targets  [...] int32, each from 0 to V − 1
 * @returns        [] float32
 * @throws {RangeError} a target out of range; found while running, so it surfaces at the next read
 * @throws {ShapeError} shapes disagree, or there are no tokens   @throws {DTypeError} a wrong dtype
 * @throws {DeviceError} different devices                        @throws {DisposedError} an argument was disposed
 */
export function crossEntropy(logits: Tensor, targets: Tensor): Tensor {
  const fn = "crossEntropy";
  checkTensor(fn, "logits", logits, { dtype: ["float32", "bfloat16"], minRank: 1 });
  checkTensor(fn, "targets", targets, { dtype: ["int32"] });
  checkShape(fn, "targets", targets, logits.shape.slice(0, -1));
  if (targets.size === 0)
    throw new ShapeError(`${fn}: logits has shape [${logits.shape.join(", ")}], want at least one token for a mean`);
  checkSameDevice(fn, { logits, targets });
  return crossEntropyOp([logits, targets], { tokens: targets.size, classes: logits.shape.at(-1)! });
}
