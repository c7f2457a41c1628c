/**
 * A whole connection through the public API: forward, and backward to x, phi, alpha and bias, with the branch F(u) = u.
 *
 * Bytes a token: forward (n+1)C + (2n+1)C, backward (2n+2)C + (3n+1)C elements, 37C for n = 4.
 */
import type { Case } from "../support/cases.ts";
import { connectionPass } from "../support/connection.ts";
import * as flops from "../support/flops.ts";
import { type ConnectionSize, connectionInputs, connectionSizes, shapeOf, streamBytes } from "../support/inputs.ts";
import { prepare } from "./mhc_post.bench.ts";
import { finish, gpuEntry, gpuFinish } from "./mhc_pre.bench.ts";

const common = (size: ConnectionSize) => ({ shape: shapeOf(size), dtype: size.dtype });

export const connectCase = (size: ConnectionSize): Case => ({
  ...common(size),
  name: "connect forward + backward",
  bytes: streamBytes(size, (8 * size.n + 5) * size.channels),
  flops: flops.connect(size),
  gpuKernels: {
    ...gpuEntry(size),
    merge_kernel: streamBytes(size, (2 * size.n + 1) * size.channels),
    prepare_kernel: streamBytes(size, (2 * size.n + 2) * size.channels),
    ...gpuFinish(size),
  },
  peer: { op: "connect", ...size },
  prepare: (inputs) => {
    const { x, phi, alpha, bias } = connectionInputs(inputs, size);
    const gradY = inputs.normal(x.shape, size.dtype);
    return () => {
      for (const tensor of connectionPass(x, { phi, alpha, bias }, gradY)) tensor.dispose();
    };
  },
});

/** The two calls of a connection's backward, one after the other: 28C for n = 4 on a GPU. */
export const backwardCase = (size: ConnectionSize): Case => ({
  ...common(size),
  name: "connection backward (prepare, finish)",
  bytes: streamBytes(size, (5 * size.n + 3) * size.channels),
  flops: flops.connectionBackward(size),
  gpuKernels: { prepare_kernel: streamBytes(size, (2 * size.n + 2) * size.channels), ...gpuFinish(size) },
  peer: { op: "connectBackward", ...size },
  prepare: (inputs) => {
    const [first, second] = [prepare(inputs, size), finish(inputs, size)];
    return () => {
      first();
      second();
    };
  },
});

export const cases = (tiny: boolean): Case[] =>
  connectionSizes(tiny)
    .filter(({ n, tokens }) => n === 4 || tokens === 1024)
    .map(connectCase);
