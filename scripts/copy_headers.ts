/** Copies the headers that building the addon needs into dist/include: an installed package has no development dependencies. */
import { cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const root = join(import.meta.dirname, "..");
const require = createRequire(import.meta.url);
const target = join(root, "dist/include");

rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
const napi = dirname(require.resolve("node-addon-api"));
for (const folder of [napi, (require("node-api-headers") as { include_dir: string }).include_dir])
  for (const name of readdirSync(folder).filter((file) => file.endsWith(".h")))
    cpSync(join(folder, name), join(target, name));
