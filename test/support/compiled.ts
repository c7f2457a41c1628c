/**
 * Before the tests: the command and the programs that tests start, as plain JavaScript. A loader of TypeScript would take most of
 * the time of every start.
 */
import { fileURLToPath } from "node:url";
import { build, type Plugin } from "esbuild";

const root = fileURLToPath(new URL("../..", import.meta.url));
const programs = "test/native/programs";
// As deep as lib and dist.
const folder = `${root}build-programs`;

/** The file of lib/cli/main.ts ("cli/main") or of a program. */
export const compiled = (name: string): string => `${folder}/${name}.js`;

export default async function setup(): Promise<void> {
  const shared = {
    absWorkingDir: root,
    outdir: folder,
    bundle: true,
    platform: "node",
    target: "node20",
    format: "esm",
    packages: "external",
    logLevel: "warning",
  } as const;
  await build({ ...shared, entryPoints: [`${programs}/*.ts`] });
  // File by file: what looks for package.json or for the addon from where it stands does so from the same depth.
  await build({ ...shared, entryPoints: ["lib/**/*.ts"], outbase: "lib", plugins: [importsStay] });
}

const importsStay: Plugin = {
  name: "imports stay",
  setup: ({ onResolve }) =>
    onResolve({ filter: /^\.\.?\// }, ({ kind, path }) =>
      kind === "entry-point" ? undefined : { path: path.replace(/\.ts$/, ".js"), external: true },
    ),
};
