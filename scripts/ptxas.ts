/**
 * `npm run ptxas`: compiles the CUDA kernels for every architecture they are meant for, needs no GPU, writes what they take of it to
 * native/cuda/registers.md, and fails where one keeps registers in memory. `-- --check` compares the table instead of writing it.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { cmake, configureKernels, root } from "./cuda_kernels.ts";
import { complaints, readReports, table } from "./ptxas_report.ts";

const architectures = ["sm_80", "sm_90a", "sm_100", "sm_120"];
const build = "build-ptxas";
const file = `${root}native/cuda/registers.md`;

const unknown = process.argv.slice(2).filter((argument) => argument !== "--check");
if (unknown.length > 0) {
  process.stderr.write(`ptxas: unknown ${unknown.join(" ")}; usage: npm run ptxas [-- --check]\n`);
  process.exit(2);
}
const checks = process.argv.includes("--check");
const nvcc = configureKernels(build, "80-real;90a-real;90-virtual;100-real;120-real");
if (nvcc === undefined) {
  process.stderr.write("ptxas: there is no nvcc, so nothing was compiled and nothing looked at\n");
  process.exit(3);
}
cmake("--build", build, "--parallel", process.env.JOBS ?? String(availableParallelism()), "--target", "cuda_kernels");

const usages = readReports(`${root}${build}`);
const found = complaints(usages, architectures);
const text = table(usages, architectures, nvcc);
if (!checks) writeFileSync(file, text);
else {
  // Another nvcc allots other registers: its table is its own.
  const compiler = (markdown: string) => /nvcc [\d.]+/.exec(markdown)?.[0];
  const committed = readFileSync(file, "utf8");
  if (compiler(committed) === compiler(text) && committed !== text)
    found.push("native/cuda/registers.md is not what the kernels compile to: npm run ptxas writes it");
}
for (const line of found) process.stderr.write(`ptxas: ${line}\n`);
process.stdout.write(`ptxas: ${usages.length} kernels for ${architectures.join(", ")}, ${found.length} complaints\n`);
process.exit(found.length > 0 ? 1 : 0);
