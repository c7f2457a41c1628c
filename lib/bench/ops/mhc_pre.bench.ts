/**
 * The entry of a connection. Forward reads x once and writes the branch input: (n+1)C elements a token.
 * Backward ("finish") reads x, dy and du and writes dx: (3n+1)C.
 */
import { native } from "../../native.ts";
import type { Case } from "../support/cases.ts";
import * as flops from "../support/flops.ts";
import {
  type ConnectionSize,
  connectionInputs,
  connectionOptions,
  connectionSizes,
  type Inputs,
  shapeOf,
  streamBytes,
} from "../support/inputs.ts";

function entry(inputs: Inputs, size: ConnectionSize) {
  const { tokens, n, channels, dtype } = size;
  const p = connectionInputs(inputs, size);
  const out = {
    input: inputs.zeros([tokens, channels], dtype),
    pre: inputs.zeros([tokens, n]),
    post: inputs.zeros([tokens, n]),
    res: inputs.zeros([tokens, n, n]),
    q: inputs.zeros([tokens, n * n + 2 * n]),
    r: inputs.zeros([tokens]),
  };
  const forward = () =>
    native.mhcPreForward(
      p.x.handle,
      p.phi.handle,
      p.alpha.handle,
      p.bias.handle,
      out.input.handle,
      out.pre.handle,
      out.post.handle,
      out.res.handle,
      out.q.handle,
      out.r.handle,
      tokens,
      n,
      channels,
      ...connectionOptions,
    );
  return { ...p, ...out, forward };
}

/** The projection has a kernel per dtype of the streams. */
export const projectionKernel = (size: ConnectionSize) => `projection_${size.dtype}_kernel`;

/** What the two kernels of the entry move on a GPU: stats reads x, collapse reads it again and writes the branch's input. */
export const gpuEntry = (size: ConnectionSize) => ({
  [projectionKernel(size)]: streamBytes(size, size.n * size.channels),
  collapse_kernel: streamBytes(size, (size.n + 1) * size.channels),
});

/** Of the backward: dpre reads x and du before the coefficients' gradient can be known, then all of it is read for dx. */
export const gpuFinish = (size: ConnectionSize) => ({
  grad_pre_kernel: streamBytes(size, (size.n + 1) * size.channels),
  finish_kernel: streamBytes(size, (3 * size.n + 1) * size.channels),
});

/** The backward call, on inputs of its own. */
export function finish(inputs: Inputs, size: ConnectionSize): () => void {
  const { tokens, n, channels, dtype } = size;
  const e = entry(inputs, size);
  e.forward();
  const gradInput = inputs.normal([tokens, channels], dtype);
  const gradPost = inputs.normal([tokens, n]);
  const gradRes = inputs.normal([tokens, n, n]);
  const gradOutput = inputs.normal([tokens, n, channels], dtype);
  const [gradX, gradPhi] = [inputs.zeros(e.x.shape, dtype), inputs.zeros(e.phi.shape)];
  const [gradAlpha, gradBias] = [inputs.zeros([3]), inputs.zeros(e.bias.shape)];
  return () =>
    native.mhcPreBackward(
      e.x.handle,
      e.phi.handle,
      e.alpha.handle,
      e.bias.handle,
      e.q.handle,
      e.r.handle,
      gradInput.handle,
      null,
      gradPost.handle,
      gradRes.handle,
      gradOutput.handle,
      gradX.handle,
      gradPhi.handle,
      gradAlpha.handle,
      gradBias.handle,
      tokens,
      n,
      channels,
      0,
      ...connectionOptions,
    );
}

export function preCases(size: ConnectionSize): Case[] {
  const { n, channels, dtype } = size;
  const shape = shapeOf(size);
  return [
    {
      name: "mhcPre forward",
      shape,
      dtype,
      bytes: streamBytes(size, (n + 1) * channels),
      flops: flops.mhcPreForward(size),
      gpuKernels: gpuEntry(size),
      peer: { op: "mhcPre", ...size },
      prepare: (inputs) => entry(inputs, size).forward,
    },
    {
      name: "mhcPre backward (finish)",
      shape,
      dtype,
      bytes: streamBytes(size, (3 * n + 1) * channels),
      flops: flops.mhcPreBackward(size),
      gpuKernels: gpuFinish(size),
      prepare: (inputs) => finish(inputs, size),
    },
  ];
}

export const cases = (tiny: boolean): Case[] => connectionSizes(tiny).flatMap(preCases);
