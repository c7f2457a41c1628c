/** All op benchmarks, in the order of the table. */
import type { Case } from "../support/cases.ts";
import { cases as adamw } from "./adamw.bench.ts";
import { cases as attention } from "./attention.bench.ts";
import { cases as connect } from "./connect.bench.ts";
import { cases as crossEntropy } from "./cross_entropy.bench.ts";
import { cases as linear } from "./linear.bench.ts";
import { cases as mhcPost } from "./mhc_post.bench.ts";
import { cases as mhcPre } from "./mhc_pre.bench.ts";
import { cases as networkEnds } from "./network_ends.bench.ts";
import { cases as rmsNorm } from "./rms_norm.bench.ts";
import { cases as seam } from "./seam.bench.ts";
import { cases as sinkhorn } from "./sinkhorn.bench.ts";

/** @param tiny  sizes for a quick look whether everything runs */
export const opCases = (tiny: boolean): Case[] => [
  ...sinkhorn(tiny),
  ...mhcPre(tiny),
  ...mhcPost(tiny),
  ...seam(tiny),
  ...networkEnds(tiny),
  ...connect(tiny),
  ...linear(tiny),
  ...attention(tiny),
  ...rmsNorm(tiny),
  ...crossEntropy(tiny),
  ...adamw(tiny),
];
