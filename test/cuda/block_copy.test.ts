/** The copy kernel that the GPU benchmark holds against the driver's copy: every byte, and none beyond. */
import { describe, expect, it } from "vitest";
import { Tensor } from "../../lib/index.ts";
import { native } from "../../lib/native.ts";
import { testDevices } from "../support/devices.ts";
import { spread } from "../support/random.ts";

describe.each(testDevices)("blockCopy on %s", (device) => {
  // A thread takes four pieces of 16 bytes, a block 1024: one piece, a part of a block, one whole, one and a tail.
  it.each([4, 100, 4096, 9004])("copies %i floats and no more", (size) => {
    using source = Tensor.from(spread(size, 1, 1), [size], { device });
    using target = Tensor.zeros([size + 8], { device });
    const part = native.tensorView(target.handle, 4, size);
    native.blockCopy(source.handle, part);
    const copied = target.dataSync();
    expect(copied.slice(4, -4)).toEqual(source.dataSync());
    expect([...copied.slice(0, 4), ...copied.slice(-4)]).toEqual(new Array(8).fill(0));
  });

  it("refuses what is not whole 16 bytes, or another size", () => {
    using source = Tensor.zeros([8], { device });
    using target = Tensor.zeros([9], { device });
    const at = (offset: number, size: number) => native.tensorView(target.handle, offset, size);
    expect(() => native.blockCopy(source.handle, at(1, 8))).toThrow("target does not begin and end on 16 bytes");
    expect(() => native.blockCopy(at(0, 5), at(4, 5))).toThrow("source does not begin and end on 16 bytes");
    expect(() => native.blockCopy(source.handle, target.handle)).toThrow("target has 9 elements, want 8");
  });
});
