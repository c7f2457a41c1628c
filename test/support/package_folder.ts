/** A package's folder like an installed one: the compiled sources, and whatever addons a test puts there. */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { compiled } from "./compiled.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
export const packageVersion = (JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string })
  .version;
export const localBuild = "build/Release/birkhoff.node";
const armv = process.arch === "arm64" ? ".armv8" : "";
export const prebuild = `prebuilds/${process.platform}-${process.arch}/birkhoff${armv}.glibc.node`;

export class PackageFolder {
  /** The empty folder that the package is installed in. */
  readonly around = mkdtempSync(join(tmpdir(), "birkhoff-installed-"));
  readonly path = join(this.around, "node_modules/birkhoff");

  constructor() {
    mkdirSync(this.path, { recursive: true });
    copyFileSync(join(root, "package.json"), join(this.path, "package.json"));
    cpSync(join(root, "node_modules/node-gyp-build"), join(this.around, "node_modules/node-gyp-build"), {
      recursive: true,
    });
    cpSync(dirname(compiled("index")), join(this.path, "dist"), { recursive: true });
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** Removes all addons. */
  clear(): void {
    for (const name of ["build", "prebuilds"]) rmSync(this.file(name), { recursive: true, force: true });
  }

  write(name: string, content: string | Uint8Array, age = 0): string {
    const file = this.file(name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, content, { mode: 0o755 });
    const time = Date.now() / 1000 - age;
    utimesSync(file, time, time);
    return file;
  }

  /** Puts the addon under test there with the text of a version, or of none; `age` seconds old. @returns its path */
  addon(name: string, version: string | undefined, age = 0): string {
    return this.write(name, addonOf(version), age);
  }

  /** Runs a program in the empty folder, with no BIRKHOFF_ADDON unless `env` has one. */
  node(program: string, { env = {}, args = [] as string[], type = "module" } = {}): SpawnSyncReturns<string> {
    const flags = program.endsWith(".js") ? [program, ...args] : [`--input-type=${type}`, "-e", program];
    return spawnSync(process.execPath, flags, {
      cwd: this.around,
      encoding: "utf8",
      env: { ...process.env, BIRKHOFF_ADDON: "", ...env },
    });
  }

  cli(...args: string[]): SpawnSyncReturns<string> {
    return this.node(this.file("dist/cli/main.js"), { args });
  }

  [Symbol.dispose](): void {
    rmSync(this.around, { recursive: true, force: true });
  }
}

/** The addon under test, as if it were of a version. Bytes after the end of an ELF file change nothing. */
export function addonOf(version: string | undefined): Buffer {
  const mark = "birkhoff-addon-version=";
  const bytes = readFileSync(process.env.BIRKHOFF_ADDON || join(root, localBuild));
  for (let at = bytes.indexOf(mark); at >= 0; at = bytes.indexOf(mark)) bytes.fill("x", at, at + mark.length);
  return version === undefined ? bytes : Buffer.concat([bytes, Buffer.from(`${mark}${version}\0`)]);
}
