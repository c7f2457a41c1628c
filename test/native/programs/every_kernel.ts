/** Every op forward and backward, a training step, and the hyper-connection kernels by themselves, on one device. every_kernel.ts <device> [small] */
import { optim, setDevice, synchronize, Tensor, tidy, valueAndGrad } from "../../../lib/index.ts";
import { native } from "../../../lib/native.ts";
import { everyOp, inputsOf, lossOf, tinyTraining } from "../../support/every_op.ts";
import { runKernels } from "../../support/hyper_connection_kernels.ts";

const device = setDevice(process.argv[2] ?? "auto");
let calls = 0;
for (const op of everyOp)
  tidy(() => {
    const inputs = inputsOf(op);
    const [value, grads] = valueAndGrad(
      () => lossOf(op, inputs),
      inputs.filter((t) => t.dtype !== "int32"),
    );
    for (const tensor of [value, ...grads]) tensor.dataSync();
    calls++;
  });

tidy(() => {
  const target = Tensor.zeros([36]);
  native.blockCopy(Tensor.ones([36]).handle, target.handle);
  target.dataSync();
  calls++;
});

const training = tinyTraining();
tidy(() => {
  const { model, tokens, targets, optimizer } = training;
  const [, grads] = valueAndGrad(() => model.loss(tokens, targets), model.parameters());
  optim.clipGradNorm(grads, 1);
  optimizer.step(grads);
  calls++;
});
training.dispose();

// Vector and scalar paths, several column ranges, token counts with tails.
const sizes = [[7, 19], [33, 72], ...(process.argv[3] === "small" ? [] : [[3, 1040]])] as [number, number][];
for (const dtype of ["float32", "bfloat16"] as const)
  for (const n of [1, 2, 4, 8])
    for (const [tokens, channels] of sizes)
      for (const head of [false, true])
        tidy(() => {
          for (const tensor of Object.values(runKernels(device, { tokens, n, channels, dtype, head })))
            tensor.dataSync();
          calls++;
        });
await synchronize();
console.log(`every kernel: ${calls} calls`);
