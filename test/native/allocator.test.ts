/** What memory() says: live bytes stay constant over training, the peak is the highest point, views share their storage. */
import { describe, expect, test } from "vitest";
import { keep, memory, ops, optim, resetPeakMemory, Tensor, tidy, valueAndGrad } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { tinyTraining } from "../support/every_op.ts";

const kilobyte = 1024;

describe("memory()", () => {
  test("counts tensors and their bytes, in blocks of 64", () => {
    const before = memory();
    using x = Tensor.zeros([256]);
    expect(memory()).toMatchObject({ tensors: before.tensors + 1, bytes: before.bytes + kilobyte });
    using y = Tensor.zeros([256], { dtype: "bfloat16" });
    expect(memory().bytes).toBe(before.bytes + 1.5 * kilobyte);
    using tiny = Tensor.zeros([1]);
    using none = Tensor.zeros([0]);
    expect(memory().bytes).toBe(before.bytes + 1.5 * kilobyte + 128);
    for (const t of [x, y, tiny, none]) t.dispose();
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });

  test("views share storage: no bytes of their own, and the bytes live until the last of them goes", () => {
    const before = memory();
    const x = Tensor.from(Float32Array.from({ length: 256 }, (_, i) => i));
    const y = ops.reshape(x, [16, 16]);
    const part = new Tensor(native.tensorView(y.handle, 16, 16), [16], "float32", "cpu");
    expect(memory()).toMatchObject({ tensors: before.tensors + 3, bytes: before.bytes + kilobyte });
    x.dispose();
    y.dispose();
    expect(memory()).toMatchObject({ tensors: before.tensors + 1, bytes: before.bytes + kilobyte });
    expect([...part.dataSync()]).toEqual(Array.from({ length: 16 }, (_, i) => 16 + i));
    part.dispose();
    expect(memory()).toMatchObject({ tensors: before.tensors, bytes: before.bytes });
  });

  test("the peak is the highest point since the reset, temporary memory of kernels included", () => {
    resetPeakMemory();
    const { bytes } = memory();
    expect(memory().peakBytes).toBe(bytes);
    tidy(() => {
      Tensor.zeros([1024]);
      Tensor.zeros([1024]).dispose();
    });
    expect(memory()).toMatchObject({ bytes, peakBytes: bytes + 8 * kilobyte });
    resetPeakMemory();
    expect(memory().peakBytes).toBe(bytes);
    tidy(() => {
      const x = Tensor.zeros([64, 64], { dtype: "bfloat16" });
      resetPeakMemory();
      const held = memory().bytes;
      // Both operands are widened to float32, into memory of the call alone.
      ops.matmul(x, x);
      expect(memory().peakBytes - held).toBe(64 * 64 * (2 + 4 + 4));
    });
  });

  test("freed memory is used again: reserved bytes do not grow", () => {
    Tensor.zeros([1 << 20]).dispose();
    const { reservedBytes } = memory();
    for (let i = 0; i < 100; i++) tidy(() => ops.scale(Tensor.zeros([1 << 19]), 2).size);
    expect(memory().reservedBytes).toBe(reservedBytes);
  });

  test("neighbours merge: many small blocks make room for a large one", () => {
    const small = Array.from({ length: 64 }, () => Tensor.zeros([1 << 14]));
    const { reservedBytes } = memory();
    // Every second one first, so that most merges have a free block on both sides.
    for (const [i, t] of small.entries()) if (i % 2 === 0) t.dispose();
    for (const t of small) t.dispose();
    using large = Tensor.zeros([1 << 20]);
    expect(large.size).toBe(1 << 20);
    expect(memory().reservedBytes).toBe(reservedBytes);
  });
});

test("live bytes after 1000 training steps equal those after 100, and so does the peak", async () => {
  const { model, optimizer, tokens, targets, dispose } = tinyTraining();
  const step = () =>
    tidy(() => {
      const [value, grads] = valueAndGrad(() => model.loss(tokens, targets), model.parameters());
      optim.clipGradNorm(grads, 1);
      optimizer.step(grads);
      return value;
    });
  let kept: Tensor | undefined;
  const run = async (steps: number) => {
    resetPeakMemory();
    for (let i = 0; i < steps; i++) {
      using value = step();
      kept?.dispose();
      kept = keep(ops.scale(value, 1));
    }
    await kept!.data();
    return memory();
  };
  const early = await run(100);
  const late = await run(900);
  expect(late).toEqual(early);
  kept!.dispose();
  dispose();
}, 120_000);
