/** Which sources these are: the commit of the checkout, or of the one that a pack (scripts/gpu_pack) was made of. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { packageRoot } from "./package_root.ts";

/** In a pack, beside package.json. */
export const commitFile = "COMMIT";

/** Twelve digits, "-dirty" behind them where tracked files were changed; "unknown" without git and in an installed package. */
export function commit(): string {
  const packed = join(packageRoot, commitFile);
  if (existsSync(packed)) return readFileSync(packed, "utf8").trim();
  // An installed package may lie within somebody else's checkout.
  if (!existsSync(join(packageRoot, ".git"))) return "unknown";
  const git = (...args: string[]) =>
    execFileSync("git", args, { cwd: packageRoot, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  try {
    return git("rev-parse", "--short=12", "HEAD") + (git("status", "--porcelain", "-uno") ? "-dirty" : "");
  } catch {
    return "unknown";
  }
}
