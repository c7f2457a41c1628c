/** The queue and the thread pool at work: changing thread counts, many reads, budgets and statistics read meanwhile. */
import { memory, ops, setThreads, synchronize, Tensor, tidy, valueAndGrad } from "../../../lib/index.ts";
import { everyOp, inputsOf, lossOf } from "../../support/every_op.ts";
import "../../support/default_device.ts";

for (let round = 0; round < 3; round++) {
  const reads: Promise<unknown>[] = [];
  for (const [i, op] of everyOp.entries()) {
    setThreads(1 + ((round + i) % 4));
    tidy(() => {
      const inputs = inputsOf(op);
      const [value, grads] = valueAndGrad(
        () => lossOf(op, inputs),
        inputs.filter((t) => t.dtype !== "int32"),
      );
      reads.push(value.data(), ...grads.map((g) => g.data()));
    });
    memory();
  }
  await Promise.all(reads);
}
// Large enough for several threads.
const x = Tensor.randn([300, 300]);
for (let i = 0; i < 40; i++) {
  setThreads(1 + (i % 4));
  tidy(() => ops.sum(ops.softmax(ops.matmul(x, x))).dataSync());
}
x.dispose();
await synchronize();
if (memory().tensors !== 0) throw new Error(`${memory().tensors} tensors leaked`);
