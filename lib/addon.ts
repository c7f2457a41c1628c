/**
 * Finds and loads the addon's file, and says why it cannot be had.
 *
 * Which file: BIRKHOFF_ADDON, else what node-gyp-build finds: build/Release, then prebuilds/. Every addon holds the text
 * `birkhoff-addon-version=…`. A local build is stale when that is missing or not this package's version, or when a prebuild
 * that fits is newer than it. A stale build is never loaded: the prebuild is, with a warning, or an error says what to do.
 */
import { closeSync, existsSync, openSync, readdirSync, readFileSync, readSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { AddonError, BirkhoffError, DeviceError } from "./errors.ts";

/** What building from source needs; lib/cli/build.ts checks it. */
export const needs = {
  cmake: "3.22",
  gcc: 10,
  clang: 13,
  cuda: 12,
  text: "CMake 3.22, g++ 10 or clang++ 13 (or newer), make or ninja",
};

export interface AddonFile {
  file: string;
  from: "BIRKHOFF_ADDON" | "local build" | "prebuild";
}

interface GypBuild {
  path(folder: string): string;
  parseTuple(folder: string): { name: string } | undefined;
  matchTuple(platform: string, arch: string): (tuple?: { name: string }) => boolean;
  parseTags(file: string): { file: string } | undefined;
  matchTags(runtime: string, abi: string): (tags?: { file: string }) => boolean;
  compareTags(runtime: string): (a?: { file: string }, b?: { file: string }) => number;
}

declare const __webpack_require__: unknown;

/** Where a bundler put this code there is no package around it. @throws {AddonError} */
export function packageRoot(): string {
  let cause: unknown;
  // webpack writes this machine's path into the bundle: it would work here and nowhere else.
  if (typeof __webpack_require__ !== "function")
    try {
      const root = dirname(dirname(fileURLToPath(import.meta.url)));
      if (manifest(root).name === "birkhoff") return root;
    } catch (error) {
      cause = error;
    }
  if (isDenied(cause)) throw refused(cause);
  throw failure(
    "birkhoff seems to be bundled: its own folder, which holds the addon, is not around this code",
    "Keep it external, so that it is loaded from node_modules: esbuild --external:birkhoff (or --packages=external); " +
      'webpack: externals: { birkhoff: "import birkhoff" }; rollup: external: ["birkhoff"].',
  );
}

/** By Deno, by Node's --permission, or by the file system. */
function isDenied(cause: unknown): boolean {
  const { name, code } = (cause ?? {}) as { name?: string; code?: string };
  return name === "NotCapable" || ["ERR_ACCESS_DENIED", "EACCES", "EPERM"].includes(code ?? "");
}

function manifest(root: string): { name?: string; version?: string } {
  return JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
}

/** The version in an addon's file, undefined where it holds none. Piece by piece: a third of the time of the whole at once. */
export function versionIn(file: string): string | undefined {
  const mark = "birkhoff-addon-version=";
  const most = 128; // of the mark and a version
  const buffer = Buffer.allocUnsafe(2 ** 18);
  const descriptor = openSync(file, "r");
  try {
    for (let kept = 0; ; ) {
      const read = readSync(descriptor, buffer, kept, buffer.length - kept, null);
      const piece = buffer.subarray(0, kept + read);
      const at = piece.indexOf(mark);
      if (at >= 0 && (read === 0 || at + most <= piece.length))
        return /^[\w.+-]*/.exec(piece.toString("latin1", at + mark.length, at + most))![0];
      if (read === 0) return undefined;
      kept = Math.min(most, piece.length);
      buffer.copyWithin(0, piece.length - kept, piece.length);
    }
  } finally {
    closeSync(descriptor);
  }
}

/** The file to load, by the rule above. @throws {AddonError} there is none that may be loaded */
export function findAddon(root: string): AddonFile & { warning?: string } {
  const gyp = createRequire(join(root, "package.json"))("node-gyp-build") as GypBuild;
  let file: string;
  try {
    file = gyp.path(root);
  } catch {
    throw missing(root);
  }
  if (dirname(dirname(file)) !== join(root, "build")) return { file, from: "prebuild" };
  const prebuild = prebuildOf(gyp, root);
  const stale = staleness(file, manifest(root).version!, prebuild);
  if (!stale) return { file, from: "local build" };
  const remedy = "Build it again (npx birkhoff build; in a checkout npm run build:native) or delete it.";
  if (!prebuild) throw failure(`the local build ${file} is stale: ${stale}`, remedy, file);
  const warning = `birkhoff: the local build ${file} is stale: ${stale}; ${prebuild} is used instead. ${remedy}`;
  return { file: prebuild, from: "prebuild", warning };
}

function staleness(file: string, wanted: string, prebuild: string | undefined): string | undefined {
  const version = versionIn(file);
  if (version === undefined) return `it holds no version, this package is ${wanted}`;
  if (version !== wanted) return `it is of version ${version}, this package is ${wanted}`;
  if (prebuild && statSync(prebuild).mtimeMs > statSync(file).mtimeMs) return "it is older than the prebuild";
  return undefined;
}

/** node-gyp-build looks for a prebuild only where it finds no local build; these are its own parts. */
function prebuildOf(gyp: GypBuild, root: string): string | undefined {
  const list = (folder: string) => {
    try {
      return readdirSync(folder);
    } catch {
      return [];
    }
  };
  const prebuilds = join(root, "prebuilds");
  const fits = gyp.matchTuple(process.platform, process.arch);
  const folder = list(prebuilds).map(gyp.parseTuple).find(fits)?.name;
  if (!folder) return undefined;
  const files = list(join(prebuilds, folder)).map(gyp.parseTags);
  const file = files.filter(gyp.matchTags("node", process.versions.modules)).sort(gyp.compareTags("node"))[0]?.file;
  return file && join(prebuilds, folder, file);
}

let loaded: AddonFile | undefined;
let failed: AddonError | undefined;

/** What is loaded; undefined before the first use. */
export const loadedAddon = (): AddonFile | undefined => loaded;

/**
 * Loads the addon. @param start  its first use
 *
 * @throws {DeviceError} the environment asks for what this machine has not (BIRKHOFF_SIMD)
 * @throws {AddonError} with file, platform, libc, reason and advice; the same on every call
 */
export function loadAddon<T>(start: (addon: T) => void): T {
  if (failed) throw new AddonError(failed);
  try {
    const named = process.env.BIRKHOFF_ADDON;
    const found = named ? ({ file: resolve(named), from: "BIRKHOFF_ADDON" } as const) : findAddon(packageRoot());
    const { file, from, warning } = { warning: undefined, ...found };
    if (warning) process.emitWarning(warning, { type: "BirkhoffWarning", code: "BIRKHOFF_STALE_BUILD" });
    let addon: T;
    try {
      addon = createRequire(file)(file) as T;
      start(addon);
    } catch (cause) {
      // The addon itself refused (a bad BIRKHOFF_SIMD): another file would not help.
      if ((cause as { code?: unknown } | null)?.code === "ERR_DEVICE") throw new DeviceError((cause as Error).message);
      throw refused(cause, { file, from });
    }
    loaded = { file, from };
    return addon;
  } catch (error) {
    const thrown = error instanceof BirkhoffError ? error : refused(error);
    if (thrown instanceof AddonError) failed = thrown;
    throw thrown;
  }
}

/** No file for this platform. */
function missing(root: string): AddonError {
  const { platform, arch } = process;
  const target = `${platform}-${arch}${libc() === "musl" ? " with musl" : ""}`;
  const looked = `${join(root, "prebuilds", `${platform}-${arch}`)} and ${join(root, "build", "Release")} hold none`;
  return failure(`there is no prebuilt addon for ${target}, and no local build (${looked})`, build());
}

/** A file, or what it takes to find it, that the runtime does not give us. */
function refused(cause: unknown, found?: AddonFile): AddonError {
  const message = (cause instanceof Error ? cause.message : String(cause)).trim();
  const said = found && !existsSync(found.file) ? "there is no such file" : message;
  const reason = found ? `${found.file} (${found.from}) cannot be loaded: ${said}` : `it cannot be found: ${said}`;
  const { name, code } = (cause ?? {}) as { name?: string; code?: string };
  const glibc = /GLIBC_([\d.]+)/.exec(said)?.[1];
  let advice = build();
  if (name === "NotCapable") advice = "Run deno with --allow-read --allow-env --allow-ffi, or with -A.";
  else if (code === "ERR_ACCESS_DENIED") advice = "Run node --permission with --allow-fs-read and --allow-addons.";
  else if (code === "ERR_DLOPEN_DISABLED")
    advice = "Run node without --no-addons; with --permission, add --allow-addons.";
  else if (found?.from === "BIRKHOFF_ADDON") advice = "Unset BIRKHOFF_ADDON, or have it name a file that loads here.";
  else if (glibc) advice = `It needs glibc ${glibc} or newer. ${advice}`;
  else if (found?.from === "local build") advice = `Delete the file, or build it again. ${advice}`;
  return failure(reason, advice, found?.file);
}

function build(): string {
  if (process.platform === "linux") return `Build it from source: npx birkhoff build (needs ${needs.text}).`;
  const how = process.platform === "win32" ? "WSL2 or a container" : "a container or a virtual machine";
  return `Types and import work here; devices need Linux (x64 or arm64): run it there, or in ${how}.`;
}

function failure(reason: string, advice: string, file?: string): AddonError {
  return new AddonError({ platform: `${process.platform}-${process.arch}`, libc: libc(), reason, advice, file });
}

/** The C library that this process runs on, as "glibc 2.36" or "musl"; null where there is neither. Takes milliseconds. */
export function libc(): string | null {
  if (process.platform !== "linux") return null;
  const version = glibcOfReport() ?? glibcOfLdd();
  if (version) return `glibc ${version}`;
  try {
    return readdirSync("/lib").some((name) => name.startsWith("ld-musl-")) ? "musl" : null;
  } catch {
    return null;
  }
}

// Missing in Deno; with the network it would look up the names of open connections.
function glibcOfReport(): string | undefined {
  const report = process.report as (typeof process.report & { excludeNetwork?: boolean }) | undefined;
  const before = report?.excludeNetwork;
  try {
    if (report) report.excludeNetwork = true;
    return (report?.getReport() as { header?: { glibcVersionRuntime?: string } } | undefined)?.header
      ?.glibcVersionRuntime;
  } catch {
    return undefined;
  } finally {
    if (report && before !== undefined) report.excludeNetwork = before;
  }
}

// A shell script that names its version; musl's is a program.
function glibcOfLdd(): string | undefined {
  try {
    return /ldd \([^)\n]*\) (\d+\.\d+)/.exec(readFileSync("/usr/bin/ldd", "latin1"))?.[1];
  } catch {
    return undefined;
  }
}
