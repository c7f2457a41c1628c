/**
 * The exit of a connection and the entry of the next in one pass: reads x and the branch output, writes y and the next branch's
 * input, (2n+2)C elements a token. Beside it the two kernels that it stands for, counted with the same bytes, so that the times
 * and rates of the two rows compare.
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
import { gpuEntry, projectionKernel } from "./mhc_pre.bench.ts";

function operands(inputs: Inputs, size: ConnectionSize) {
  const { tokens, n, channels, dtype } = size;
  const { x, phi, alpha, bias } = connectionInputs(inputs, size);
  const ending = [
    x,
    inputs.normal([tokens, channels], dtype),
    inputs.normal([tokens, n]),
    // Lines that sum to about 1.
    inputs.normal([tokens, n, n], "float32", 1 / Math.sqrt(n)),
  ] as const;
  const entered = [
    inputs.zeros([tokens, channels], dtype),
    inputs.zeros([tokens, n]),
    inputs.zeros([tokens, n]),
    inputs.zeros([tokens, n, n]),
    inputs.zeros([tokens, n * n + 2 * n]),
    inputs.zeros([tokens]),
  ] as const;
  const y = inputs.zeros(x.shape, dtype);
  const handles = <T extends readonly { handle: unknown }[]>(tensors: T) =>
    tensors.map((t) => t.handle) as { [K in keyof T]: T[K]["handle"] };
  return {
    ending: handles(ending),
    parameters: handles([phi, alpha, bias] as const),
    y: y.handle,
    entered: handles(entered),
    sizes: [tokens, n, channels] as const,
  };
}

export function seamCases(size: ConnectionSize): Case[] {
  const { n, channels, dtype } = size;
  const merge = streamBytes(size, (2 * n + 1) * channels);
  const peer = { op: "seam", ...size };
  const rest = {
    shape: shapeOf(size),
    dtype,
    bytes: streamBytes(size, (2 * n + 2) * channels),
    flops: flops.seamForward(size),
  };
  return [
    {
      name: "seam forward",
      ...rest,
      gpuKernels: { ...gpuEntry(size), [projectionKernel(size)]: merge },
      peer,
      prepare: (inputs) => {
        const { ending, parameters, y, entered, sizes } = operands(inputs, size);
        return () => native.seamForward(...ending, ...parameters, y, ...entered, ...sizes, ...connectionOptions);
      },
    },
    {
      name: "mhcPost + mhcPre forward",
      ...rest,
      gpuKernels: { merge_kernel: merge, ...gpuEntry(size) },
      prepare: (inputs) => {
        const { ending, parameters, y, entered, sizes } = operands(inputs, size);
        return () => {
          native.mhcPostForward(...ending, y, ...sizes);
          native.mhcPreForward(y, ...parameters, ...entered, ...sizes, ...connectionOptions);
        };
      },
    },
  ];
}

export const cases = (tiny: boolean): Case[] => connectionSizes(tiny).flatMap(seamCases);
