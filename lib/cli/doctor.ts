/** `birkhoff doctor`: what this machine offers and why CUDA is not used; works even where the addon does not load. */
import { cpus, totalmem } from "node:os";
import { libc, loadedAddon } from "../addon.ts";
import { AddonError } from "../errors.ts";
import { type Flags, helpText, parseFlags } from "./arguments.ts";
import { version } from "./version.ts";

export const flags: Flags = { json: { help: "one JSON object" } };

export const help = () =>
  helpText("birkhoff doctor [--json]", "Shows versions, processor, threads, GEMM library and devices.", flags);

interface Findings {
  version: string;
  node: string;
  platform: string;
  /** As "glibc 2.36" or "musl". */
  libc: string | null;
  processor: string;
  memoryGiB: number;
  /** `from`: BIRKHOFF_ADDON, local build or prebuild. */
  addon: { loaded: boolean; file?: string; from?: string; reason?: string; advice?: string };
  simd?: string;
  gemm?: string;
  /** "none" where the build has no CUDA kernels. */
  gpuGemm?: string;
  threads?: number;
  cores?: number;
  devices?: { name: string; available: boolean; description: string; reason?: string }[];
  /** What "auto" chooses. */
  device?: string;
}

async function examine(): Promise<Findings> {
  const findings: Findings = {
    version: version(),
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    libc: libc(),
    processor: cpus()[0]?.model ?? "unknown",
    memoryGiB: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    addon: { loaded: true },
  };
  try {
    const { devices, setDevice, systemInfo } = await import("../device.ts");
    const found = { ...systemInfo(), devices: devices(), device: setDevice("auto") };
    return { ...findings, addon: { loaded: true, ...loadedAddon() }, ...found };
  } catch (error) {
    const { file, reason, advice } =
      error instanceof AddonError ? error : { file: undefined, reason: (error as Error).message, advice: undefined };
    return { ...findings, addon: { loaded: false, file, reason, advice } };
  }
}

/** Runs the command. @returns 0, or 1 when the addon does not load */
export async function run(argv: readonly string[]): Promise<number> {
  const given = parseFlags("doctor", flags, argv);
  if (given.has("help")) {
    process.stdout.write(help());
    return 0;
  }
  const f = await examine();
  process.stdout.write(given.has("json") ? `${JSON.stringify(f)}\n` : `${lines(f).join("\n")}\n`);
  return f.addon.loaded ? 0 : 1;
}

function lines(f: Findings): string[] {
  const row = (name: string, value: unknown) => `${name.padEnd(14)}${value}`;
  const out = [
    row("birkhoff", f.version),
    row("node", `${f.node} on ${f.platform}${f.libc ? `, ${f.libc}` : ""}`),
    row("processor", `${f.processor}, ${f.cores ?? cpus().length} cores, ${f.memoryGiB} GiB memory`),
    row("addon", f.addon.loaded ? `${f.addon.file} (${f.addon.from})` : `not loaded: ${f.addon.reason}`),
  ];
  if (f.addon.advice) out.push(row("advice", f.addon.advice));
  if (!f.addon.loaded) return out;
  out.push(row("SIMD", f.simd), row("GEMM", f.gemm), row("threads", f.threads));
  for (const d of f.devices ?? [])
    out.push(row(d.name, d.available ? d.description : `not used: ${d.reason ?? "not available"}`));
  if (!f.devices?.some((d) => d.name.startsWith("cuda")))
    out.push(row("cuda", "not used: this build has no CUDA backend"));
  if (f.gpuGemm !== "none") out.push(row("GPU GEMM", f.gpuGemm));
  out.push(row("auto", `chooses ${f.device}`));
  return out;
}
