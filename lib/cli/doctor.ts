/** `birkhoff doctor`: what this machine offers and why CUDA is not used; works even where the addon does not load. */
import { cpus, totalmem } from "node:os";
import { type Flags, helpText, parseFlags } from "./arguments.ts";
import { version } from "./version.ts";

export const flags: Flags = { json: { help: "one JSON object" } };

export const help = () =>
  helpText("birkhoff doctor [--json]", "Shows versions, processor, threads, GEMM library and devices.", flags);

interface Findings {
  version: string;
  node: string;
  platform: string;
  glibc: string | null;
  processor: string;
  memoryGiB: number;
  addon: { loaded: boolean; reason?: string; override?: string };
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
  const header = (process.report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined)?.header;
  const findings: Findings = {
    version: version(),
    node: process.version,
    platform: `${process.platform}-${process.arch}`,
    glibc: header?.glibcVersionRuntime ?? null,
    processor: cpus()[0]?.model ?? "unknown",
    memoryGiB: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    addon: { loaded: true },
  };
  if (process.env.BIRKHOFF_ADDON) findings.addon.override = process.env.BIRKHOFF_ADDON;
  try {
    const { devices, setDevice, systemInfo } = await import("../device.ts");
    return { ...findings, ...systemInfo(), devices: devices(), device: setDevice("auto") };
  } catch (error) {
    findings.addon = { ...findings.addon, loaded: false, reason: (error as Error).message };
    return findings;
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
    row("node", `${f.node} on ${f.platform}, ${f.glibc ? `glibc ${f.glibc}` : "no glibc"}`),
    row("processor", `${f.processor}, ${f.cores ?? cpus().length} cores, ${f.memoryGiB} GiB memory`),
    row(
      "addon",
      `${f.addon.loaded ? "loaded" : `not loaded: ${f.addon.reason}`}${f.addon.override ? ` (BIRKHOFF_ADDON=${f.addon.override})` : ""}`,
    ),
  ];
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
