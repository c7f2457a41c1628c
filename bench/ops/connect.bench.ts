/**
 * A whole connection through the public API: forward, and backward to x, phi, alpha and bias, with the branch F(u) = u.
 *
 * Bytes a token: forward (n+1)C + (2n+1)C, backward (2n+2)C + (3n+1)C elements, 37C for n = 4.
 */
import type { Case } from "../support/cases.ts";
import { connectionPass } from "../support/connection.ts";
import { connectionInputs, connectionSizes, shapeOf, streamBytes } from "../support/inputs.ts";

export const cases: Case[] = connectionSizes
  .filter(({ n, tokens }) => n === 4 || tokens === 1024)
  .map((size) => ({
    name: "connect forward + backward",
    shape: shapeOf(size),
    dtype: size.dtype,
    bytes: streamBytes(size, (8 * size.n + 5) * size.channels),
    prepare: (inputs) => {
      const { x, phi, alpha, bias } = connectionInputs(inputs, size);
      const gradY = inputs.normal(x.shape, size.dtype);
      return () => {
        for (const tensor of connectionPass(x, { phi, alpha, bias }, gradY)) tensor.dispose();
      };
    },
  }));
