/** The package as npm would publish it, and the runtimes it is tried on. */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export class Failure extends Error {}

/** Runs a program of this machine. @throws {Failure} with what it printed */
export function call(command: string, args: readonly string[], cwd: string): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8" });
  if (status !== 0)
    throw new Failure(`${command} ${args.join(" ")} failed:\n${error?.message ?? ""}${stdout}\n${stderr}`);
  return stdout;
}

const pack = (from: string, to: string): string => {
  const text = call("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", to], from);
  return join(to, (JSON.parse(text) as [{ filename: string }])[0].filename);
};

const folderName = `prebuilds/linux-${process.arch}`;

/**
 * Packs the checkout. @param addon  a file to ship as the prebuilt addon; default what is in prebuilds
 * @throws {Failure} there is no prebuilt addon, or no dist
 */
export function makeTarball(root: string, cache: string, addon: string | undefined): string {
  const prebuilds = existsSync(join(root, folderName)) ? readdirSync(join(root, folderName)) : [];
  if (!addon && !prebuilds.some((name) => name.endsWith(".node")))
    throw new Failure(`${folderName} holds no addon: npm run prebuilds first, or name one with --addon FILE`);
  if (!existsSync(join(root, "dist/index.js"))) throw new Failure("dist is missing: npm run build:types first");
  const packed = pack(root, cache);
  if (!addon) return packed;
  const stage = join(cache, "package");
  rmSync(stage, { recursive: true, force: true });
  call("tar", ["xzf", packed], cache);
  rmSync(join(stage, "prebuilds"), { recursive: true, force: true });
  mkdirSync(join(stage, folderName), { recursive: true });
  const tags = process.arch === "arm64" ? "armv8.glibc" : "glibc";
  copyFileSync(addon, join(stage, folderName, `birkhoff.${tags}.node`));
  return pack(stage, cache);
}

/** Installs packages into a folder, without their scripts; what npm has cached it does not fetch again. */
export function install(folder: string, ...packages: string[]): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "package.json"), '{ "private": true }\n');
  call("npm", ["install", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund", ...packages], folder);
}

export interface Runtime {
  name: string;
  version: string;
  binary: string;
  /** What comes before the file of a program. */
  start: readonly string[];
}

/** Node of every supported major version, Bun and Deno, from npm; kept in the cache. */
export function runtimes(cache: string): Runtime[] {
  const { arch } = process;
  const bun = `@oven/bun-linux-${arch === "arm64" ? "aarch64" : "x64"}`;
  const wanted: [string, string, string, string[]][] = [20, 22, 24, 26].map((major) => {
    const name = `node-linux-${arch}`;
    return ["node", `${name}@${major}`, `${name}/bin/node`, ["node"]];
  });
  wanted.push(["bun", `${bun}@1`, `${bun}/bin/bun`, ["bun"]]);
  wanted.push(["deno", `@deno/linux-${arch}-glibc@2`, `@deno/linux-${arch}-glibc/deno`, ["deno", "run", "-A", "-q"]]);
  return wanted.map(([name, spec, path, start]) => {
    const folder = join(cache, "runtimes", spec.replaceAll("/", "+"));
    const binary = join(folder, "node_modules", path);
    if (!existsSync(binary)) install(folder, spec);
    call("chmod", ["755", binary], folder);
    const version = /\d+\.\d+\.\d+/.exec(call(binary, ["--version"], folder))![0];
    return { name, version, binary, start };
  });
}
