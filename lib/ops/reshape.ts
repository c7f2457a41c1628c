import { defineOp } from "../autograd.ts";
import { ArgumentTypeError, ShapeError } from "../errors.ts";
import type { Tensor } from "../tensor.ts";
import { checkTensor, show, sizeOf } from "../validate.ts";

const reshapeOp = defineOp<[Tensor], { shape: readonly number[]; source: readonly number[] }>({
  name: "reshape",
  forward: (_, [x], { shape }) => x.view(shape),
  backward: (_, [grad], { source }) => [grad!.view(source)],
});

/**
 * The same elements in another shape; a view, no copy.
 *
 * @param x      any shape and dtype
 * @param shape  as many elements as x; one extent may be −1: what is left
 * @throws {ShapeError} the sizes differ, or −1 has no single answer   @throws {RangeError} a bad extent
 * @throws {TypeError} shape is no array                               @throws {DisposedError} `x` was disposed
 */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  const fn = "reshape";
  checkTensor(fn, "x", x);
  if (!Array.isArray(shape)) throw new ArgumentTypeError(`${fn}: shape is ${show(shape)}, want an array of extents`);
  const open = shape.indexOf(-1);
  const known = sizeOf(
    fn,
    "shape",
    shape.map((d, i) => (i === open ? 1 : d)),
  );
  const want = `want ${x.size} elements like x [${x.shape.join(", ")}]`;
  if (open < 0 && known !== x.size) throw new ShapeError(`${fn}: shape is [${shape.join(", ")}], ${want}`);
  if (open >= 0 && (known === 0 || x.size % known !== 0))
    throw new ShapeError(`${fn}: shape is [${shape.join(", ")}], whose −1 has no single answer; ${want}`);
  const full = shape.map((d, i) => (i === open ? x.size / known : d));
  return reshapeOp([x], { shape: full, source: x.shape });
}
