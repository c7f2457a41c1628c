/** What else a user of the installed package meets: no addon, a bundler, the README's example. Each check says what it found. */
import { spawnSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build as esbuild } from "esbuild";
import type { Place } from "./place.ts";
import { call, install } from "./tarball.ts";

/** "" where all is well, else what is wrong. */
export type Finding = string;

const lastLine = (text: string) => text.trim().split("\n").at(-1) ?? "";

/** The first code block of the README, as it is. */
export function readmeExample(place: Place, bin: string): Finding {
  const readme = readFileSync(join(place.folder, "node_modules/birkhoff/README.md"), "utf8");
  const example = /```js\n([\s\S]*?)```/.exec(readme)?.[1];
  if (!example) return "the README has no example";
  writeFileSync(join(place.folder, "readme.mjs"), example);
  const { code, stdout, stderr } = place.run(bin, [`${bin}/node`, place.inside("readme.mjs")]);
  const losses = [...stdout.matchAll(/loss ([\d.]+)/g)].map(([, loss]) => Number(loss));
  if (code !== 0) return `exit code ${code}: ${lastLine(stderr)}`;
  return losses.length > 2 && losses.at(-1)! < 0.85 * losses[0]! ? "" : `the losses do not fall: ${losses.join(" ")}`;
}

/** The demo finds a text where only the package is installed. */
export function demoPreset(place: Place, bin: string): Finding {
  const link = place.inside("node_modules/.bin/birkhoff");
  const { code, stdout, stderr } = place.run(bin, [link, ..."train --preset demo --steps 2 --sample 0".split(" ")]);
  return code === 0 && stdout.includes("held-out loss") ? "" : `exit code ${code}: ${lastLine(stderr)}`;
}

/** Says so with a typed error, and its advice works. */
export function withoutAddon(place: Place, bin: string): Finding {
  const { stdout, stderr } = place.run(bin, [`${bin}/node`, place.inside("without.mjs")]);
  if (!stdout.startsWith("{")) return `no typed error: ${lastLine(stderr)}`;
  const { typed, code, message } = JSON.parse(stdout) as { typed?: boolean; code?: string; message?: string };
  if (!typed || code !== "ERR_ADDON") return `not an AddonError: ${stdout}`;
  return message!.includes("npx birkhoff build") ? "" : `no advice: ${message}`;
}

export function removeAddon(place: Place): void {
  for (const name of ["prebuilds", "build"])
    rmSync(join(place.folder, "node_modules/birkhoff", name), { recursive: true, force: true });
}

/** `npx birkhoff build` with this machine's compiler, without CUDA and OpenBLAS: the same bits are wanted of it. */
export function buildFromSource(place: Place): Finding {
  const env = { ...process.env, BIRKHOFF_USE_OPENBLAS: "OFF" };
  const args = ["--no", "birkhoff", "build", "--cuda", "off"];
  const { status, stderr } = spawnSync("npx", args, { cwd: place.folder, encoding: "utf8", env });
  return status === 0 ? "" : `exit code ${status}: ${stderr.trim().split("\n").slice(-5).join(" | ")}`;
}

/** Bundles a program. @returns the bundle's name in the place */
export async function bundle(
  place: Place,
  cache: string,
  tool: "esbuild" | "webpack",
  external: boolean,
): Promise<string> {
  const [entry, outfile] = [external ? "esm.mjs" : "without.mjs", `${tool}-${external ? "external" : "bundled"}.mjs`];
  if (tool === "esbuild") {
    const options = { entryPoints: [join(place.folder, entry)], outfile: join(place.folder, outfile) };
    const rest = { bundle: true, platform: "node", format: "esm", logLevel: "silent" } as const;
    await esbuild({ ...options, ...rest, external: external ? ["birkhoff"] : [] });
    return outfile;
  }
  const folder = join(cache, "runtimes", "webpack@5");
  try {
    call("node", ["-e", "require.resolve('webpack')"], folder);
  } catch {
    install(folder, "webpack@5");
  }
  const output = { path: place.folder, filename: outfile, module: true, chunkFormat: "module" };
  const externals = external ? { birkhoff: "import birkhoff" } : {};
  const options = {
    mode: "development",
    devtool: false,
    target: "node20",
    entry: join(place.folder, entry),
    output,
    externals,
  };
  const program = `require("webpack")({ ...${JSON.stringify(options)}, experiments: { outputModule: true } }, (error, stats) => {
    if (error || stats.hasErrors()) { console.error(error ?? stats.toString("errors-only")); process.exit(1); }
  });`;
  call("node", ["-e", program], folder);
  return outfile;
}

/** The first call of a bundled package says that it must be external. */
export function bundledMessage(place: Place, bin: string, file: string): Finding {
  const { stdout, stderr } = place.run(bin, [`${bin}/node`, place.inside(file)]);
  if (!stdout.startsWith("{")) return `no typed error: ${lastLine(stderr)}`;
  const { code, message } = JSON.parse(stdout) as { code?: string; message?: string };
  return code === "ERR_ADDON" && /bundled.*external/.test(message ?? "") ? "" : `it says ${message ?? "nothing"}`;
}
