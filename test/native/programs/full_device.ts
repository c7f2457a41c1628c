/**
 * A device of 192 MiB (CUDA_EMU_MEMORY) that is full of memory which nobody uses: what is asked for then must be found.
 * Prints the bytes that pools hold at each point, and the errors of what cannot be had: there, and over a budget that was set
 * before the device was opened.
 */
import { type OutOfMemoryError, setMemoryBudget, Tensor } from "../../../lib/index.ts";
import { native } from "../../../lib/native.ts";

const device = "cuda-emulated";
const mebibyte = 2 ** 20;
const make = (size: number) => Tensor.empty([(size * mebibyte) / 4], "float32", device);
const held = () => {
  const { allocator, reads } = native.emulator!.memory();
  return { allocator: allocator / mebibyte, reads: reads / mebibyte };
};

const refusal = (size: number) => {
  try {
    return `none: ${make(size)}`;
  } catch (error) {
    const { code, message } = error as OutOfMemoryError;
    return `${code} ${message}`;
  }
};

const points: Record<string, unknown> = {};
setMemoryBudget(mebibyte);
points.budget = refusal(2);
setMemoryBudget(Number.POSITIVE_INFINITY);
const read = Tensor.from(new Float32Array((60 * mebibyte) / 4), undefined, { device });
await read.data();
points.read = held();
// 60 and 60 are taken: only without the copy of the read is there room.
const beside = make(120);
points.beside = held();
beside.dispose();
// A read's copy is under way, and 120 are cached: both are waited for.
const reading = read.data();
make(130).dispose();
await reading;
read.dispose();
// All of it is cached, in pieces that are too small.
const large = make(184);
points.large = held();
points.refused = refusal(184);
large.dispose();
points.again = make(184).size * 4;
console.log(JSON.stringify(points));
