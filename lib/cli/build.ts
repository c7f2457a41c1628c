/** `birkhoff build`: builds the addon from the sources that the package ships, where there is no prebuilt one or another is wanted. */
import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { needs, packageRoot, versionIn } from "../addon.ts";
import { type Flags, helpText, parseFlags, Values } from "./arguments.ts";
import { type Cuda, findTools, remedies, type Tools } from "./build_tools.ts";
import { version } from "./version.ts";

export const flags: Flags = {
  cuda: { value: "WHEN", help: "auto (where nvcc is found), on or off (default auto; BIRKHOFF_CUDA=OFF: off)" },
  jobs: { value: "N", help: "compilers at a time (default all cores)" },
  json: { help: "one JSON object: what was found, missing and built" },
};

export const help = () =>
  helpText(
    "birkhoff build [flags]",
    "Builds the addon from source, into the package's folder (build/Release/birkhoff.node), from where it is loaded from then on.",
    flags,
    `Needs Linux, ${needs.text}; checks them first.\n` +
      `With CUDA's nvcc ${needs.cuda} or newer the addon runs on GPUs too; with OpenBLAS (libopenblas-dev) matrix products on the CPU are faster.\n` +
      "CXX chooses the compiler, CUDACXX nvcc; BIRKHOFF_LEVELS, BIRKHOFF_CUDA_ARCHITECTURES, BIRKHOFF_USE_OPENBLAS=OFF: see CMakeLists.txt.\n" +
      "Exit codes: 0 built, 1 something is missing or the build failed (what was there stays), 2 a wrong flag, 130 interrupted.",
  );

const say = (line: string) => process.stderr.write(`${line}\n`);

/** Runs the command. @returns the exit code */
export async function run(argv: readonly string[]): Promise<number> {
  const given = parseFlags("build", flags, argv);
  if (given.has("help")) {
    process.stdout.write(help());
    return 0;
  }
  const unwanted = /^(off|0|no|false|n)$/i.test(process.env.BIRKHOFF_CUDA ?? "");
  const args = new Values("build", given, { cuda: unwanted ? "off" : "auto", jobs: availableParallelism() });
  const cuda = args.oneOf<Cuda>("cuda", ["auto", "on", "off"]);
  const jobs = args.integer("jobs", 1, 1024);
  const report = (found: object) => {
    if (given.has("json")) process.stdout.write(`${JSON.stringify(found)}\n`);
  };

  if (process.platform !== "linux") {
    const reason = `the addon builds on Linux alone (x64 or arm64), this is ${process.platform}-${process.arch}`;
    say(
      `birkhoff: build: ${reason}; types and import work here. Build it in ${process.platform === "win32" ? "WSL2 or " : ""}a container.`,
    );
    report({ built: false, reason });
    return 1;
  }
  const root = packageRoot();
  const tools = findTools(root, cuda);
  const { missing, cmake, compiler, generator, nvcc, noCuda } = tools;
  if (missing.length > 0) {
    say("birkhoff: build: not everything that it needs is here:");
    const width = Math.max(...missing.map(({ name }) => name.length));
    for (const { name, wanted, found } of missing) say(`  ${name.padEnd(width)}  want ${wanted}; found ${found}`);
    say(`\n${remedies}`);
    report({ built: false, reason: `missing: ${missing.map(({ name }) => name).join(", ")}`, missing });
    return 1;
  }
  say(
    `cmake ${cmake!.version}, ${compiler!.kind} ${compiler!.version} (${compiler!.path}), ${generator!.name} ${generator!.version}`,
  );
  say(nvcc ? `CUDA kernels: by nvcc ${nvcc.version} (${nvcc.path})` : `CUDA kernels: none (${noCuda})`);

  const interrupt = new AbortController();
  const onInterrupt = () => interrupt.abort();
  process.once("SIGINT", onInterrupt);
  // In a folder of its own beside what is there: a build that fails, or another one at the same time, changes nothing.
  const folder = mkdtempSync(join(root, "build", "from-source-"));
  try {
    const built = await compile(root, folder, tools, jobs, interrupt.signal);
    const addon = join(root, "build", "Release", "birkhoff.node");
    mkdirSync(join(root, "build", "Release"), { recursive: true });
    renameSync(join(folder, "birkhoff.node"), addon);
    const { simd, gemm, devices } = built;
    say(
      `built ${addon}: ${simd}, GEMM ${gemm}; devices: ${devices.flatMap((d) => (d.available ? d.name : [])).join(", ")}`,
    );
    if (process.env.BIRKHOFF_ADDON) say(`BIRKHOFF_ADDON=${process.env.BIRKHOFF_ADDON} is set and goes before it`);
    report({
      built: true,
      file: addon,
      version: version(),
      cmake,
      compiler,
      generator,
      nvcc,
      noCuda,
      simd,
      gemm,
      devices,
    });
    return 0;
  } catch (error) {
    if (interrupt.signal.aborted) return 130;
    if (!(error instanceof StepError)) throw error;
    say(`${error.output}\nbirkhoff: build: ${error.message}; what was there before is unchanged`);
    if (nvcc) say("Without CUDA it may build: npx birkhoff build --cuda off");
    report({ built: false, reason: error.message, output: error.output, cmake, compiler, generator, nvcc, noCuda });
    return 1;
  } finally {
    process.off("SIGINT", onInterrupt);
    rmSync(folder, { recursive: true, force: true });
  }
}

class StepError extends Error {
  constructor(
    message: string,
    readonly output: string,
  ) {
    super(message);
  }
}

interface Built {
  simd: string;
  gemm: string;
  devices: { name: string; available: boolean }[];
}

/** Configures, compiles, and loads the result in a process of its own. @throws {StepError} */
async function compile(root: string, folder: string, tools: Tools, jobs: number, signal: AbortSignal): Promise<Built> {
  const { cmake, compiler, generator, nvcc } = tools;
  const options = [
    ...["-S", root, "-B", folder, "-G", generator!.name, `-DCMAKE_MAKE_PROGRAM=${generator!.path}`],
    ...[`-DCMAKE_CXX_COMPILER=${compiler!.path}`, "-DCMAKE_BUILD_TYPE=Release"],
    ...(nvcc ? ["-DBIRKHOFF_CUDA=ON", `-DNVCC=${nvcc.path}`] : ["-DBIRKHOFF_CUDA=OFF"]),
  ];
  // Decided already; CMakeLists.txt would take the environment's word.
  const env = { ...process.env, BIRKHOFF_CUDA: nvcc ? "ON" : "OFF" };
  await step("CMake", cmake!.path, options, { env, signal }, (line) => {
    const status = /^-- (CPU kernels|GEMM): .*/.exec(line);
    if (status) say(status[0].slice(3));
  });
  say(`compiling, ${jobs} at a time: a few minutes`);
  let shown = 0;
  const arguments_ = ["--build", folder, "--target", "birkhoff", "--parallel", String(jobs)];
  await step("the compiler", cmake!.path, arguments_, { env, signal }, (line) => {
    const [, percent, done, all] = /^\[ *(?:(\d+)%|(\d+)\/(\d+))\]/.exec(line) ?? [];
    const now = percent ? Number(percent) : done ? Math.floor((100 * Number(done)) / Number(all)) : 0;
    if (now < shown + 10) return;
    shown = now;
    say(`${now} %`);
  });
  const file = join(folder, "birkhoff.node");
  if (versionIn(file) !== version())
    throw new StepError(`the new file says version ${versionIn(file)}, this package is ${version()}`, "");
  const self = [...process.execArgv, process.argv[1]!, "doctor", "--json"];
  const loading = { env: { ...process.env, BIRKHOFF_ADDON: file }, signal };
  const text = await step("loading the new file", process.execPath, self, loading, () => {});
  return JSON.parse(text.split("\n").find((line) => line.startsWith("{"))!) as Built;
}

/** Runs one program; each line of its output goes to `onLine`. @returns all of it   @throws {StepError} with the last lines */
function step(
  what: string,
  command: string,
  args: readonly string[],
  options: { env: NodeJS.ProcessEnv; signal: AbortSignal },
  onLine: (line: string) => void,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let rest = "";
    const take = (chunk: string) => {
      output += chunk;
      const lines = (rest + chunk).split("\n");
      rest = lines.pop()!;
      lines.forEach(onLine);
    };
    child.stdout.setEncoding("utf8").on("data", take);
    child.stderr.setEncoding("utf8").on("data", take);
    child.on("error", (error) => reject(new StepError(`${what} failed: ${error.message}`, output)));
    child.on("close", (code, killed) => {
      const last = output.trimEnd().split("\n").slice(-40).join("\n");
      if (code === 0) resolve(output);
      else reject(new StepError(`${what} failed (${killed ?? `exit code ${code}`})`, last));
    });
  });
}
