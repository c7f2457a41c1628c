/** publint (strict) and arethetypeswrong on the tarball as npm would publish it; dist must be built. Exit code 1 on any finding. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const run = (command: string, ...args: string[]) => spawnSync(command, args, { cwd: root, stdio: "inherit" }).status;

const folder = mkdtempSync(join(tmpdir(), "birkhoff-package-"));
try {
  // Without scripts: the native code is not built again.
  const packed = spawnSync("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder], {
    cwd: root,
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"],
  });
  if (packed.status !== 0) process.exit(1);
  const [{ filename }] = JSON.parse(packed.stdout) as [{ filename: string }];
  const tarball = join(folder, filename);
  const publint = run("npx", "--no", "publint", "run", tarball, "--strict");
  const types = run("npx", "--no", "attw", tarball, "--profile", "esm-only");
  process.exitCode = publint === 0 && types === 0 ? 0 : 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
