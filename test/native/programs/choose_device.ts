// Asks for a device that may not be there; prints what "auto" took instead, the error, and that the CPU computes.
import { type BirkhoffError, ops, setDevice, Tensor } from "../../../lib/index.ts";

const wanted = process.argv[2]!;
const auto = setDevice("auto");
const errors = [() => setDevice(wanted), () => Tensor.ones([1], { device: wanted })].map((ask) => {
  try {
    return `none: ${ask()}`;
  } catch (error) {
    const { name, code, message } = error as BirkhoffError;
    return `${name} ${code} ${message}`;
  }
});
const sum = ops.add(Tensor.from([1, 2]), Tensor.from([3, 4])).dataSync();
console.log(JSON.stringify({ auto, errors, sum: [...sum] }));
