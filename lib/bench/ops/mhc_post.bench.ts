/**
 * The exit of a connection. Forward ("merge") reads x and the branch output and writes y: (2n+1)C elements a token.
 * Backward ("prepare") reads dy, x and the output and writes the output's gradient: (2n+2)C.
 */
import { native } from "../../native.ts";
import type { Case } from "../support/cases.ts";
import * as flops from "../support/flops.ts";
import { type ConnectionSize, connectionSizes, type Inputs, shapeOf, streamBytes } from "../support/inputs.ts";

function operands(inputs: Inputs, { tokens, n, channels, dtype }: ConnectionSize) {
  return {
    x: inputs.normal([tokens, n, channels], dtype),
    output: inputs.normal([tokens, channels], dtype),
    post: inputs.normal([tokens, n]),
    res: inputs.normal([tokens, n, n]),
  };
}

/** The backward call, on inputs of its own. */
export function prepare(inputs: Inputs, size: ConnectionSize): () => void {
  const { tokens, n, channels, dtype } = size;
  const { x, output, post, res } = operands(inputs, size);
  const gradY = inputs.normal(x.shape, dtype);
  const gradOutput = inputs.zeros(output.shape, dtype);
  const [gradPost, gradRes] = [inputs.zeros(post.shape), inputs.zeros(res.shape)];
  return () =>
    native.mhcPostBackward(
      x.handle,
      output.handle,
      post.handle,
      res.handle,
      gradY.handle,
      gradOutput.handle,
      gradPost.handle,
      gradRes.handle,
      null,
      tokens,
      n,
      channels,
    );
}

export function postCases(size: ConnectionSize): Case[] {
  const { tokens, n, channels, dtype } = size;
  const shape = shapeOf(size);
  return [
    {
      name: "mhcPost forward",
      shape,
      dtype,
      bytes: streamBytes(size, (2 * n + 1) * channels),
      flops: flops.mhcPostForward(size),
      peer: { op: "mhcPost", ...size },
      prepare: (inputs) => {
        const { x, output, post, res } = operands(inputs, size);
        const y = inputs.zeros(x.shape, dtype);
        return () =>
          native.mhcPostForward(x.handle, output.handle, post.handle, res.handle, y.handle, tokens, n, channels);
      },
    },
    {
      name: "mhcPost backward (prepare)",
      shape,
      dtype,
      bytes: streamBytes(size, (2 * n + 2) * channels),
      flops: flops.mhcPostBackward(size),
      prepare: (inputs) => prepare(inputs, size),
    },
  ];
}

export const cases = (tiny: boolean): Case[] => connectionSizes(tiny).flatMap(postCases);
