/**
 * `npm run sass`: compiles the hot CUDA kernels for sm_90a, needs no GPU, and prints what nvdisasm finds in their loops; `-- --write`
 * writes it to native/cuda/instructions.md; `-- --check` fails on narrow accesses, calls and local memory that hot_kernels.ts does
 * not know, and where that file is stale. Names of .cu files leave out the others. Without nvdisasm the PTX is checked.
 * Exit codes: 0 all right, 1 not, 2 wrong arguments, 3 no nvcc, or nothing wrong in the PTX but the machine code was not seen.
 */
import { execFile, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { configureKernels, root } from "../cuda_kernels.ts";
import { type KernelUsage, parseReport } from "../ptxas_report.ts";
import { parsePtx, parseSass } from "./code.ts";
import { watchedKernels } from "./hot_kernels.ts";
import { judge, type KernelCode, measure, table } from "./report.ts";

const build = "build-sass";
const file = "native/cuda/instructions.md";
const run = promisify(execFile);

function fail(code: number, text: string): never {
  process.stderr.write(`sass: ${text}\n`);
  process.exit(code);
}

/** The disassembler: the one that BIRKHOFF_NVDISASM names ("none": none), else of PATH, else of the toolkit. */
function findDisassembler(): string | undefined {
  const named = process.env.BIRKHOFF_NVDISASM;
  if (named === "none") return undefined;
  if (named && !existsSync(named)) fail(2, `BIRKHOFF_NVDISASM names ${named}, which is not there`);
  if (named) return named;
  const folders = (process.env.PATH ?? "").split(delimiter);
  for (const toolkit of [process.env.CUDA_HOME, process.env.CUDA_PATH, "/usr/local/cuda"])
    if (toolkit) folders.push(join(toolkit, "bin"));
  return folders.map((folder) => join(folder, "nvdisasm")).find((path) => existsSync(path));
}

const flags = process.argv.slice(2).filter((argument) => argument.startsWith("--"));
const files = process.argv.slice(2).filter((argument) => !argument.startsWith("--"));
const unknown = [
  ...flags.filter((flag) => flag !== "--check" && flag !== "--write"),
  ...files.filter((name) => !watchedKernels.some((kernel) => kernel.file === name)),
];
if (unknown.length > 0 || flags.length > 1 || (flags.includes("--write") && files.length > 0))
  fail(2, `cannot take ${process.argv.slice(2).join(" ")}; usage: npm run sass [-- [--check] [file.cu ...] | --write]`);
const watched = watchedKernels.filter((kernel) => files.length === 0 || files.includes(kernel.file));

const disassembler = findDisassembler();
const nvcc = configureKernels(build, "90a-real");
if (nvcc === undefined) fail(3, "there is no nvcc, so nothing was compiled and nothing looked at");
const language = disassembler ? "sass" : "ptx";
if (!disassembler)
  process.stderr.write(`sass: there is no nvdisasm in BIRKHOFF_NVDISASM, PATH or $CUDA_HOME/bin: only the PTX is looked at, which
  knows no spills, no slow paths of divisions, and not all that ptxas splits. It comes with the CUDA toolkit; or, without installing:
  apt-get download nvidia-cuda-toolkit (Debian, component non-free, version 12.4 or later: sid) and dpkg -x <package> <folder>.\n`);
else if (spawnSync(disassembler, ["--version"]).status !== 0) fail(1, `${disassembler} does not run`);
if (language === "ptx" && flags.includes("--write")) fail(3, `${file} needs nvdisasm`);

const codes: KernelCode[] = [];
const usages: KernelUsage[] = [];

/** Compiles a file as the build does, but to a cubin or PTX, and reads what came out and what ptxas said. */
async function compile(name: string): Promise<void> {
  const source = `${root}native/cuda/${name}`;
  const commands = JSON.parse(readFileSync(`${root}${build}/compile_commands.json`, "utf8")) as {
    directory: string;
    command: string;
    file: string;
  }[];
  const entry = commands.find((candidate) => candidate.file === source);
  if (!entry) throw new Error(`${source} is not compiled by CMakeLists.txt`);
  const output = `${root}${build}/${language}/${name}.${language === "sass" ? "cubin" : "ptx"}`;
  const command = entry.command
    .replace(/ -c (?=\S+ -o )/, language === "sass" ? " -cubin " : " -ptx ")
    .replace(/ -o \S+/, ` -o '${output}'`);
  const { stderr } = await run("bash", ["-c", command], { cwd: entry.directory, maxBuffer: 1 << 26 });
  if (!disassembler) codes.push(...measure(name, parsePtx(readFileSync(output, "utf8")), language));
  else {
    usages.push(...parseReport(name, stderr));
    const { stdout } = await run(disassembler, ["-c", output], { maxBuffer: 1 << 30 });
    codes.push(...measure(name, parseSass(stdout), language));
  }
}

mkdirSync(`${root}${build}/${language}`, { recursive: true });
const waiting = [...new Set(watched.map((kernel) => kernel.file))];
// Two at a time: nvcc takes a gigabyte.
await Promise.all(
  [1, 2].map(async () => {
    for (let name = waiting.shift(); name; name = waiting.shift()) await compile(name);
  }),
).catch((error: Error & { stderr?: string }) => fail(1, `${error.message}\n${error.stderr ?? ""}`));

const { complaints, notes } = judge(codes, language, watched);
if (disassembler) {
  const registers = (name: string, kernel: string) =>
    usages.find((usage) => usage.file === name && usage.kernel === kernel)?.registers;
  const version = /V([\d.]+)/.exec(spawnSync(disassembler, ["--version"], { encoding: "utf8" }).stdout)?.[1];
  const text = table(codes, registers, `nvcc ${nvcc} and nvdisasm ${version ?? "unknown"}`, watched);
  if (flags.includes("--write")) writeFileSync(root + file, text);
  else if (!flags.includes("--check")) process.stdout.write(text);
  else if (files.length === 0) {
    // Other tools: a table of their own.
    const tools = (markdown: string) => /nvcc \S+ and nvdisasm [\d.]+/.exec(markdown)?.[0];
    const committed = readFileSync(root + file, "utf8");
    if (tools(committed) === tools(text) && committed !== text)
      complaints.push(`${file} is not what the kernels compile to: npm run sass -- --write writes it`);
  }
}
for (const line of [...notes, ...complaints]) process.stderr.write(`sass: ${line}\n`);
process.stderr.write(`sass: ${codes.length} kernels for sm_90a, ${complaints.length} complaints\n`);
if (flags.includes("--check") && complaints.length > 0) process.exit(1);
process.exit(disassembler ? 0 : 3);
