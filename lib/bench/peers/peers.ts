/**
 * One connection in birkhoff and in other libraries: forward and backward to x, phi, alpha and bias, F(u) = u, T = 1024, n = 4,
 * C = 512, 20 iterations, float32. Same inputs; results are compared first, since the time of a wrong function means nothing.
 * Then all take turns: in each round each one runs one untimed and a few timed passes while the others wait.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { currentDevice } from "../../device.ts";
import type { Tensor } from "../../index.ts";
import { native } from "../../native.ts";
import { connectionPass } from "../support/connection.ts";
import { type ConnectionSize, connectionInputs, Inputs, shapeOf } from "../support/inputs.ts";
import { round, type Timing, timing } from "../support/measure.ts";
import { peerProgram } from "../support/package_root.ts";
import { type Report, timingFields } from "../support/report.ts";
import { PeerError, PeerMissing, PeerProcess, type PeerSpec } from "./process.ts";

const full: ConnectionSize = { tokens: 1024, n: 4, channels: 512, dtype: "float32" };
/** For a quick look whether everything runs. */
const small: ConnectionSize = { ...full, tokens: 16, channels: 32 };
const iters = 20;
const passesPerRound = 5;
/** Thread pools spin for a while after their last work; nobody is timed while another one still does. */
const settleMs = 50;
const resultNames = ["y", "dx", "dphi", "dalpha", "dbias"] as const;
const columns = [
  { head: "ms", width: 10 },
  { head: "quartiles", width: 20 },
  { head: "/ birkhoff", width: 12 },
];

/**
 * Largest difference allowed, relative to the largest magnitude. A coefficient is a sum of K = nC products and goes through
 * 2·iters normalisations of n + 2 roundings; libraries sum in any order, so each may be off by one float32 step (2⁻²⁴) for each.
 * dphi, dalpha and dbias also sum over T tokens. A wrong convention or a lost term differs by 1e-2 and more.
 */
function tolerance(name: string, size: ConnectionSize): number {
  const steps = size.n * size.channels + 2 * iters * (size.n + 2) + (name === "y" || name === "dx" ? 0 : size.tokens);
  return steps * 2 ** -24;
}

function specs(folder: string): PeerSpec[] {
  const torch = (mode: string, form: string): PeerSpec => ({
    name: mode === "eager" ? "pytorch eager" : `pytorch compiled ${form}`,
    command: process.env.BIRKHOFF_BENCH_PYTHON ?? "python3",
    args: [peerProgram("connection_torch.py"), mode, form, folder],
    howTo: "Install PyTorch (pip install torch) for python3, or name another Python in BIRKHOFF_BENCH_PYTHON.",
  });
  return [
    torch("eager", "calls"),
    // Which form the compiler likes better depends on the machine; the faster one is the peer to beat.
    torch("compiled", "calls"),
    torch("compiled", "loops"),
    {
      name: "jax-js",
      command: process.execPath,
      args: [peerProgram("connection_jax.mjs"), folder],
      howTo: "Install it with: npm install @jax-js/jax (in a checkout of birkhoff: npm install --prefix bench/peers).",
    },
  ];
}

/** max |a − b| / max |b|. */
function difference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) throw new Error(`${a.length} values, want ${b.length}`);
  let [worst, largest] = [0, 0];
  for (const [i, want] of b.entries()) {
    const gap = Math.abs(a[i]! - want);
    // NaN would lose every comparison.
    worst = gap <= worst ? worst : Number.isNaN(gap) ? Infinity : gap;
    largest = Math.max(largest, Math.abs(want));
  }
  return worst / largest;
}

async function compare(
  peer: PeerProcess,
  { folder, size }: Setting,
  own: readonly Float32Array[],
  report: Report,
): Promise<number> {
  await peer.check("peer");
  const gaps = resultNames.map((name, i) => {
    const file = readFileSync(join(folder, `peer.${name}`));
    const values = new Float32Array(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
    return { name, gap: difference(values, own[i]!), allowed: tolerance(name, size) };
  });
  for (const { name, gap, allowed } of gaps)
    if (!(gap <= allowed))
      throw new PeerError(
        `bench: ${peer.name}: ${name} is off by ${gap.toExponential(1)} of its largest value, want ≤ ${allowed}`,
      );
  const shown = gaps.map(({ name, gap }) => `${name} ${gap.toExponential(0)}`).join(", ");
  report.say(`${peer.name}: ${peer.info.description}; agrees (largest difference, relative: ${shown})`);
  return round(Math.max(...gaps.map(({ gap }) => gap)), 2);
}

async function startPeers(folder: string, filter: RegExp, report: Report): Promise<PeerProcess[]> {
  const peers: PeerProcess[] = [];
  for (const spec of specs(folder)) {
    if (!filter.test(spec.name)) continue;
    try {
      report.say(`${spec.name}: starting${spec.name.includes("compiled") ? ", compiling takes a minute" : ""}`);
      peers.push(await PeerProcess.start(spec));
    } catch (error) {
      if (!(error instanceof PeerMissing)) throw error;
      report.say(error.message);
    }
  }
  return peers;
}

interface Setting {
  folder: string;
  size: ConnectionSize;
}

function summarize(
  report: Report,
  size: ConnectionSize,
  own: Timing,
  timings: Timing[],
  peers: PeerProcess[],
  gaps: number[],
): void {
  const { simd, gemm, threads } = native.info();
  const descriptions = [`${simd}, ${gemm}, ${threads} threads`, ...peers.map((p) => p.info.description)];
  report.table("library", columns);
  for (const [i, t] of [own, ...timings].entries()) {
    const times = t.median / own.median;
    report.add({
      name: `peer ${t.name}`,
      shape: `${shapeOf(size)} ${iters} iterations`,
      dtype: size.dtype,
      ...timingFields(t),
      ratio_to_birkhoff: round(times),
      library: descriptions[i]!,
      first_pass_s: i === 0 ? undefined : round(peers[i - 1]!.info.first_pass_s, 3),
      largest_difference: i === 0 ? undefined : gaps[i - 1]!,
    });
    report.row(t.name, [t.median, `${round(t.p25)} – ${round(t.p75)}`, times]);
  }
}

/** @throws {PeerError} a peer computes something else, or ends */
export async function runPeers(report: Report, filter: RegExp, rounds: number, tiny: boolean): Promise<void> {
  const size = tiny ? small : full;
  report.title(`Peers, connection forward + backward, ${shapeOf(size)}, ${iters} iterations, float32`);
  const folder = mkdtempSync(join(tmpdir(), "birkhoff-bench-"));
  const inputs = new Inputs();
  let peers: PeerProcess[] = [];
  const clean = () => rmSync(folder, { recursive: true, force: true });
  process.once("exit", clean);
  try {
    const parameters = connectionInputs(inputs, size);
    const gradY = inputs.normal(parameters.x.shape);
    for (const [name, tensor] of Object.entries({ ...parameters, gradY } as Record<string, Tensor>))
      writeFileSync(join(folder, name), await tensor.data());
    const { threads } = native.info();
    writeFileSync(join(folder, "case.json"), JSON.stringify({ ...size, iters, normEps: 1e-6, threads }));

    peers = await startPeers(folder, filter, report);
    const pass = () => connectionPass(parameters.x, parameters, gradY);
    const results = pass();
    const own = (await Promise.all(results.map((t) => t.data()))) as Float32Array[];
    for (const tensor of results) tensor.dispose();
    const gaps: number[] = [];
    for (const peer of peers) gaps.push(await compare(peer, { folder, size }, own, report));

    const timedPass = async () => {
      const start = performance.now();
      for (const tensor of pass()) tensor.dispose();
      await native.synchronize(currentDevice());
      return performance.now() - start;
    };
    const birkhoff = async (count: number) => {
      await timedPass();
      const times: number[] = [];
      for (let i = 0; i < count; i++) times.push(await timedPass());
      return times;
    };
    const runners = [birkhoff, ...peers.map((peer) => (count: number) => peer.run(count))];
    const samples = runners.map((): number[] => []);
    for (let r = 0; r < rounds; r++)
      for (let step = 0; step < runners.length; step++) {
        const i = (r + step) % runners.length;
        await sleep(settleMs);
        samples[i]!.push(...(await runners[i]!(passesPerRound)));
      }
    const [mine, ...theirs] = samples.map((s, i) => timing(i === 0 ? "birkhoff" : peers[i - 1]!.name, s));
    summarize(report, size, mine!, theirs, peers, gaps);
  } finally {
    for (const peer of peers) peer.stop();
    process.off("exit", clean);
    clean();
    inputs.dispose();
  }
}
