/** Prints value and gradients of every op, reduced to a few numbers each, and the instruction set that computed them. */
import { type Tensor, tidy, valueAndGrad } from "../../../lib/index.ts";
import { native } from "../../../lib/native.ts";
import { everyOp, inputsOf, lossOf } from "../../support/every_op.ts";
import "../../support/default_device.ts";

/** Sum of w·v and of |w·v|, the weights such that permutations and sign errors show. */
function checksum(tensor: Tensor): { sum: number; size: number } {
  let [sum, size] = [0, 0];
  for (const [i, v] of tensor.dataSync().entries()) {
    sum += v * (1 + (i % 7));
    size += Math.abs(v) * (1 + (i % 7));
  }
  return { sum, size };
}

const results: Record<string, { sum: number; size: number }[]> = {};
for (const op of everyOp)
  tidy(() => {
    const inputs = inputsOf(op);
    const floats = inputs.filter((t) => t.dtype !== "int32");
    const [, grads] = valueAndGrad(() => lossOf(op, inputs), floats);
    results[op.name] = [checksum(op.op(...inputs)), ...grads.map(checksum)];
  });
console.log(JSON.stringify({ simd: native.info().simd, results }));
