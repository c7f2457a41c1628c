/** The queue: calls return at once, in order, with errors told once; the process may leave at any time. */
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { ops, setThreads, synchronize, Tensor, tidy } from "../../lib/index.ts";
import { runProgram } from "../support/program.ts";

/** Queues about half a second of work; the result is read by the caller. */
function longQueue(): Tensor {
  return tidy(() => {
    const x = Tensor.full([512, 512], 1 / 512);
    let y = x;
    for (let i = 0; i < 100; i++) y = ops.matmul(y, x);
    return y;
  });
}

describe("the event loop", () => {
  test("a 10 ms timer keeps ticking while a long queue runs", async () => {
    setThreads(1);
    // The machine may be busy with other things: the best of three tries counts.
    let best = Number.POSITIVE_INFINITY;
    for (let attempt = 0; attempt < 3 && best >= 50; attempt++) {
      using y = longQueue();
      let [worst, last, ticks] = [0, performance.now(), 0];
      const tick = setInterval(() => {
        const now = performance.now();
        worst = Math.max(worst, now - last);
        last = now;
        ticks++;
      }, 10);
      const reading = y.data();
      const values = await reading;
      clearInterval(tick);
      expect(values[0]).toBeCloseTo(1 / 512, 8);
      expect(ticks).toBeGreaterThan(2);
      best = Math.min(best, worst);
    }
    expect(best).toBeLessThan(50);
  });

  test("queueing returns before the work is done", async () => {
    using y = longQueue();
    let done = false;
    const reading = y.data().then(() => {
      done = true;
    });
    await sleep(0);
    expect(done).toBe(false);
    await reading;
  });
});

describe("order", () => {
  test("reads deliver what was there when they were queued, whatever is freed or queued after", async () => {
    const reads: Promise<Float32Array | Int32Array>[] = [];
    for (let i = 0; i < 300; i++) {
      const x = Tensor.full([257], i);
      reads.push(x.data());
      x.dispose();
      // Takes over x's memory at once.
      Tensor.full([257], -1).dispose();
    }
    for (const [i, values] of (await Promise.all(reads)).entries()) {
      expect(values[0]).toBe(i);
      expect(values[256]).toBe(i);
    }
  });

  test("reads resolve in the order in which they were asked for", async () => {
    using x = Tensor.zeros([3]);
    const order: number[] = [];
    await Promise.all(Array.from({ length: 200 }, (_, i) => x.data().then(() => order.push(i))));
    expect(order).toEqual(Array.from({ length: 200 }, (_, i) => i));
  });

  test("data and dataSync together", async () => {
    using x = Tensor.full([5], 4);
    const before = x.data();
    expect([...x.dataSync()]).toEqual([4, 4, 4, 4, 4]);
    expect([...(await before)]).toEqual([4, 4, 4, 4, 4]);
  });
});

test("back-pressure: far more work than the queue holds still runs, each piece once", async () => {
  let x = Tensor.zeros([1]);
  using one = Tensor.ones([1]);
  for (let i = 0; i < 20_000; i++) {
    const y = ops.add(x, one);
    x.dispose();
    x = y;
  }
  expect(await x.item()).toBe(20_000);
  x.dispose();
});

describe("errors of queued work", () => {
  const spoil = () => {
    using indices = Tensor.from(Int32Array.of(0, 99, 1));
    using weight = Tensor.ones([4, 2]);
    ops.embedding(indices, weight).dispose();
  };
  const expected = { name: "RangeError", code: "ERR_RANGE", message: "embedding: indices[1] is 99, want 0 to 3" };

  test("come with the next data(), once", async () => {
    using x = Tensor.ones([2]);
    spoil();
    const first = x.data();
    const second = x.data();
    await expect(first).rejects.toMatchObject(expected);
    expect([...(await second)]).toEqual([1, 1]);
    expect([...x.dataSync()]).toEqual([1, 1]);
  });

  test("come with the next dataSync(), item() or synchronize()", async () => {
    using x = Tensor.ones([1]);
    spoil();
    expect(() => x.dataSync()).toThrow(expect.objectContaining(expected));
    expect(x.dataSync()[0]).toBe(1);
    spoil();
    await expect(x.item()).rejects.toMatchObject(expected);
    expect(await x.item()).toBe(1);
    spoil();
    await expect(synchronize()).rejects.toMatchObject(expected);
    await synchronize();
  });

  test("the first of several is told: the others may be its consequences", async () => {
    spoil();
    tidy(() => ops.embedding(Tensor.from(Int32Array.of(-1)), Tensor.ones([4, 2])));
    await expect(synchronize()).rejects.toMatchObject(expected);
    await synchronize();
  });

  test("by index, not by thread: the lowest position is named", async () => {
    setThreads(2);
    const bad = new Int32Array(200_000).fill(7);
    for (let i = 0; i < 5; i++) {
      tidy(() => ops.embedding(Tensor.from(bad), Tensor.ones([4, 2])));
      await expect(synchronize()).rejects.toMatchObject({ message: "embedding: indices[0] is 7, want 0 to 3" });
    }
  });
});

const passed = { code: 0, signal: null, stderr: "" };

/** Two processes at a time. */
async function repeat(times: number, run: () => ReturnType<typeof runProgram>): Promise<void> {
  for (let i = 0; i < times; i += 2)
    for (const { code, signal, stderr } of await Promise.all([run(), run()]))
      expect({ code, signal, stderr }).toEqual(passed);
}

describe("leaving", () => {
  test("process.exit with work and reads queued, 20 times", { timeout: 120_000 }, () =>
    repeat(20, () => runProgram("exit_with_work")),
  );

  // With the addon in the main thread too, and without: then the last worker takes all threads down.
  test.each(["1", "0"])(
    "2 processes of 12 workers terminated while they work, addon in main: %s",
    { timeout: 120_000 },
    (inMain) => repeat(2, () => runProgram("workers", { args: ["12", inMain, "0"] })),
  );

  test("workers that end by themselves", { timeout: 60_000 }, () =>
    repeat(2, () => runProgram("workers", { args: ["4", "0", "1"] })),
  );
});
