/**
 * The entry of a connection. Forward reads x once and writes the branch input: (n+1)C elements a token.
 * Backward ("finish") reads x, dy and du and writes dx: (3n+1)C.
 */
import { native } from "../../lib/native.ts";
import type { Case } from "../support/cases.ts";
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

function finish(inputs: Inputs, size: ConnectionSize): () => void {
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

export const cases: Case[] = connectionSizes.flatMap((size) => {
  const { n, channels, dtype } = size;
  const shape = shapeOf(size);
  return [
    {
      name: "mhcPre forward",
      shape,
      dtype,
      bytes: streamBytes(size, (n + 1) * channels),
      prepare: (inputs) => entry(inputs, size).forward,
    },
    {
      name: "mhcPre backward (finish)",
      shape,
      dtype,
      bytes: streamBytes(size, (3 * n + 1) * channels),
      prepare: (inputs) => finish(inputs, size),
    },
  ];
});
