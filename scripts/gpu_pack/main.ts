/**
 * `npm run gpu:pack`: one archive of what a bare machine with a GPU lacks, for gpu:verify there: all tracked files, the packages
 * they need, a node binary, the addon, the commit's name. See bench/README.md.
 */
import { createHash } from "node:crypto";
import {
  copyFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { commit, commitFile } from "../../lib/bench/support/commit.ts";
import { runChild, tail } from "../gpu_verify/child.ts";
import { closure, namedPackages } from "./closure.ts";

const root = resolve(import.meta.dirname, "../..");
const mostBytes = 50 * 2 ** 20;

const help = `Usage: npm run gpu:pack -- [options]

Packs what gpu:verify needs on a machine with nothing but an NVIDIA driver and the CUDA toolkit, and says how to run it there.

  --addon <file>  instead of building one for an H100 and all later GPUs, without OpenBLAS
  --out <folder>  where the archive goes (default build-pack)
  --level <n>     of xz, 0 … 9 (default 6)
  --no-node       leaves the node binary out: NODE names one there
  --help
`;

class UsageError extends Error {}

function parse(args: string[]) {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  const options = { addon: text, out: text, level: text, "no-node": flag, help: flag };
  try {
    const { values } = parseArgs({ args, options, strict: true, allowPositionals: false });
    if (!/^\d$/.test(values.level ?? "6")) throw new Error(`--level is ${values.level}, want 0 to 9`);
    return values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

async function run(command: string, args: readonly string[]): Promise<string> {
  const outcome = await runChild(command, args, { cwd: root, seconds: 3600 });
  if (outcome.code !== 0) throw new Error(`${command} ${args.join(" ")}\n${tail(outcome)}`);
  return outcome.stdout;
}

/** What the device's machine runs: sm_90a as it is, what comes later from PTX. */
async function buildAddon(): Promise<string> {
  const folder = "build-pack/addon";
  const options = [
    "-DBIRKHOFF_USE_OPENBLAS=OFF",
    "-DBIRKHOFF_CUDA_ARCHITECTURES=90a-real;90-virtual",
    "-DBIRKHOFF_LEVELS=all",
  ];
  await run("cmake", ["-S", ".", "-B", folder, ...options]);
  if (!/^NVCC:.*(?<!NOTFOUND)$/m.test(readFileSync(join(root, folder, "CMakeCache.txt"), "utf8")))
    throw new Error("there is no nvcc, so the addon would have no CUDA kernels; --addon names one that has");
  const jobs = process.env.JOBS ?? String(availableParallelism());
  await run("cmake", ["--build", folder, "--parallel", jobs, "--target", "birkhoff"]);
  return join(root, folder, "birkhoff.node");
}

/** A tree of files for tar: links where that is possible, and one inode for large files that are there twice (esbuild's binary). */
class Stage {
  readonly folder: string;
  readonly #large = new Map<string, string>();

  constructor(folder: string) {
    this.folder = folder;
  }

  add(from: string, to: string): void {
    const target = join(this.folder, to);
    mkdirSync(dirname(target), { recursive: true });
    let source = from;
    if (statSync(from).size > 2 ** 20) {
      const hash = createHash("sha1").update(readFileSync(from)).digest("hex");
      source = this.#large.get(hash) ?? from;
      this.#large.set(hash, target);
    }
    try {
      linkSync(source, target);
    } catch {
      copyFileSync(source, target); // another file system
    }
  }

  /** All files of a folder but what nothing runs. */
  addPackage(from: string): void {
    for (const entry of readdirSync(join(root, from), { withFileTypes: true })) {
      const path = join(from, entry.name);
      if (entry.isDirectory() && entry.name !== "node_modules") this.addPackage(path);
      else if (entry.isFile() && !/\.(map|md|d\.[cm]?ts)$/.test(entry.name)) this.add(join(root, path), path);
    }
  }

  write(to: string, text: string): void {
    writeFileSync(join(this.folder, to), text);
  }
}

async function pack(flags: ReturnType<typeof parse>): Promise<void> {
  const out = resolve(flags.out ?? join(root, "build-pack"));
  mkdirSync(out, { recursive: true });
  const name = commit();
  const addon = flags.addon === undefined ? await buildAddon() : resolve(flags.addon);
  const stage = new Stage(mkdtempSync(join(out, "stage-")));
  try {
    const tracked = (await run("git", ["ls-files", "-z"])).split("\0").filter((file) => file && !/^dist\//.test(file));
    for (const file of tracked) stage.add(join(root, file), file);
    for (const folder of closure(root, namedPackages(root, tracked))) stage.addPackage(folder);
    stage.add(addon, "build/Release/birkhoff.node");
    if (!flags["no-node"]) stage.add(realpathSync(process.execPath), "bin/node");
    stage.write(commitFile, `${name}\n`);
    const archive = join(out, `birkhoff-gpu-${name}.tar.xz`);
    await run("tar", [
      "-cf",
      archive,
      "-I",
      `xz -${flags.level ?? 6} -T0`,
      "--owner=0",
      "--group=0",
      "-C",
      stage.folder,
      ".",
    ]);
    const { size } = statSync(archive);
    if (size > mostBytes) {
      rmSync(archive);
      throw new Error(`the archive has ${size} bytes, want at most ${mostBytes}`);
    }
    const file = basename(archive);
    process.stdout.write(`${archive}: ${(size / 2 ** 20).toFixed(1)} MiB. There, beside it:

  mkdir -p birkhoff && tar -xJf ${file} -C birkhoff && bash birkhoff/scripts/gpu_verify.sh
`);
  } finally {
    rmSync(stage.folder, { recursive: true });
  }
}

try {
  const flags = parse(process.argv.slice(2));
  if (flags.help) process.stdout.write(help);
  else await pack(flags);
} catch (error) {
  process.stderr.write(`gpu:pack: ${(error as Error).message}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
