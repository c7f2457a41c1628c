/** Which packages of node_modules a set of sources needs, with all that those need. */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

interface Manifest {
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
  peerDependenciesMeta?: Record<string, { optional?: boolean }>;
}

const manifest = (folder: string) => JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) as Manifest;

/** The project's packages that a source names in quotes: by an import, or as what a program is started with. */
export function namedPackages(root: string, sources: readonly string[]): string[] {
  const { dependencies, devDependencies } = manifest(root);
  const texts = sources
    .filter((file) => /\.(ts|mjs)$/.test(file))
    .map((file) => readFileSync(join(root, file), "utf8"));
  return Object.keys({ ...dependencies, ...devDependencies }).filter((name) =>
    texts.some((text) => ['"', "/"].some((end) => text.includes(`"${name}${end}`))),
  );
}

/** Where Node finds a package from a folder: in node_modules there or further up. */
function locate(name: string, from: string, root: string): string | undefined {
  for (let at = from; at.startsWith(root); at = dirname(at)) {
    const folder = join(at, "node_modules", name);
    if (existsSync(join(folder, "package.json"))) return folder;
  }
  return undefined;
}

/**
 * Folders of those packages and of their dependencies, relative to the root, each once. Optional ones (the binaries of other
 * platforms) only where they are installed.
 *
 * @throws {Error} one that must be there is not
 */
export function closure(root: string, names: readonly string[]): string[] {
  const found = new Set<string>();
  const visit = (name: string, from: string, optional: boolean) => {
    const folder = locate(name, from, root);
    if (folder === undefined) {
      if (optional) return;
      throw new Error(`${name}, which ${relative(root, from) || "the project"} needs, is not installed: npm ci`);
    }
    if (found.has(folder)) return;
    found.add(folder);
    const { dependencies = {}, optionalDependencies = {}, peerDependencies = {}, ...rest } = manifest(folder);
    for (const next of Object.keys(dependencies)) visit(next, folder, next in optionalDependencies);
    for (const next of Object.keys(optionalDependencies)) visit(next, folder, true);
    for (const next of Object.keys(peerDependencies))
      if (!rest.peerDependenciesMeta?.[next]?.optional) visit(next, folder, false);
  };
  for (const name of names) visit(name, root, false);
  return [...found].map((folder) => relative(root, folder)).sort();
}
