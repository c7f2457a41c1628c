/** expand and contract, the ends of a network of streams: (n+1)C elements a token each. */
import { native } from "../../native.ts";
import type { Case } from "../support/cases.ts";
import * as flops from "../support/flops.ts";
import { type ConnectionSize, connectionSizes, shapeOf, streamBytes } from "../support/inputs.ts";

export function networkEndCases(size: ConnectionSize): Case[] {
  const { tokens, n, channels, dtype } = size;
  const shared = { shape: shapeOf(size), dtype, bytes: streamBytes(size, (n + 1) * channels) };
  return [
    {
      ...shared,
      name: "expand",
      flops: flops.expand(size),
      peer: { op: "expand", ...size },
      prepare: (inputs) => {
        const [h, x] = [inputs.normal([tokens, channels], dtype), inputs.zeros([tokens, n, channels], dtype)];
        return () => native.expand(h.handle, x.handle, tokens, n, channels, 1);
      },
    },
    {
      ...shared,
      name: "contract",
      flops: flops.contract(size),
      peer: { op: "contract", ...size },
      prepare: (inputs) => {
        const [h, x] = [inputs.zeros([tokens, channels], dtype), inputs.normal([tokens, n, channels], dtype)];
        return () => native.contract(h.handle, x.handle, tokens, n, channels, 1);
      },
    },
  ];
}

export const cases = (tiny: boolean): Case[] =>
  connectionSizes(tiny)
    .filter(({ n }) => n === 4)
    .flatMap(networkEndCases);
