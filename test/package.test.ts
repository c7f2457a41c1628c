/** What npm would publish: the files of the tarball, and package.json. dist comes from `npm run build:types`. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const manifest = JSON.parse(readFileSync(`${root}package.json`, "utf8"));

describe("the tarball", () => {
  let files: { path: string; size: number }[];
  let paths: Set<string>;
  beforeAll(() => {
    if (!existsSync(`${root}dist/index.js`)) throw new Error("dist is missing: npm run build:types");
    const npm = ["pack", "--dry-run", "--json", "--ignore-scripts"];
    [{ files }] = JSON.parse(
      execFileSync("npm", npm, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }),
    );
    paths = new Set(files.map((file) => file.path));
  });

  it("holds these kinds of files and no others: no tests, runs or logs", () => {
    const kinds = [
      /^(package\.json|README\.md|LICENSE|CHANGELOG\.md|THIRD_PARTY_NOTICES\.md|CMakeLists\.txt)$/,
      /^dist\/[\w/]+(\.bench)?\.(js|d\.ts|js\.map|d\.ts\.map)$/,
      /^dist\/include\/[\w.-]+\.h$/,
      /^lib\/[\w/]+(\.bench)?\.ts$/,
      /^lib\/bench\/peers\/\w+\.(mjs|py)$/,
      /^lib\/data\/sample\.txt$/,
      /^native\/[\w/-]+\.(h|cpp|cu|md)$/,
      /^cmake\/\w+\.(cmake|sh|ld)$/,
      /^prebuilds\/linux-(x64|arm64)\/[\w.]+\.node$/,
    ];
    expect([...paths].filter((path) => !kinds.some((kind) => kind.test(path)))).toEqual([]);
    expect([...paths].filter((path) => /\.test\.|\.log$|\.tgz$/.test(path))).toEqual([]);
  });

  it("holds what the package needs: entry points, types, sources and headers of the addon, notices", () => {
    const needed = ["dist/index.js", "dist/index.d.ts", "dist/cli/main.js", "dist/cli/build.js", "lib/data/sample.txt"];
    needed.push("LICENSE", "THIRD_PARTY_NOTICES.md", "CHANGELOG.md", "CMakeLists.txt", "cmake/cuda.cmake");
    for (const header of ["napi.h", "napi-inl.h", "node_api.h", "js_native_api.h"])
      needed.push(`dist/include/${header}`);
    const tracked = execFileSync("git", ["ls-files", "lib", "native", "cmake"], { cwd: root, encoding: "utf8" });
    needed.push(...tracked.trim().split("\n"));
    expect(needed.filter((path) => !paths.has(path))).toEqual([]);
  });

  it("maps of JavaScript and of types point to files that ship", () => {
    const maps = [...paths].filter((path) => path.endsWith(".map"));
    const missing = maps.flatMap((map) => {
      const { sources, sourceRoot } = JSON.parse(readFileSync(root + map, "utf8")) as {
        sources: string[];
        sourceRoot: string;
      };
      const all = sources.map((source) => posix.join(posix.dirname(map), sourceRoot ?? "", source));
      expect(all.length).toBeGreaterThan(0);
      return all.filter((source) => !paths.has(source)).map((source) => `${map}: ${source}`);
    });
    expect(missing).toEqual([]);
    const modules = [...paths].filter((path) => /^dist\/.*\.js$/.test(path));
    expect(modules.filter((path) => !paths.has(`${path}.map`) || !paths.has(path.replace(/js$/, "d.ts.map")))).toEqual(
      [],
    );
  });

  it("is small without the prebuilt addons", () => {
    const sizes = files.filter(({ path }) => !path.startsWith("prebuilds/")).map(({ size }) => size);
    expect(sizes.reduce((a, b) => a + b)).toBeLessThan(3e6);
  });
});

describe("package.json", () => {
  it("lets every platform depend on it, and runs nothing at installation", () => {
    for (const field of ["os", "cpu", "libc", "gypfile"]) expect(manifest).not.toHaveProperty(field);
    for (const script of ["preinstall", "install", "postinstall", "prebuild", "preprebuilds"])
      expect(manifest.scripts).not.toHaveProperty(script);
    expect(Object.keys(manifest.dependencies)).toEqual(["node-gyp-build"]);
  });

  it("says where it is from, and the changelog has its version or what is unreleased", () => {
    for (const field of ["description", "license", "author", "homepage"]) expect(manifest[field]).toMatch(/./);
    expect(manifest.repository.url).toMatch(/^git\+https:.*\.git$/);
    expect(manifest.bugs.url).toMatch(/^https:/);
    expect(manifest.keywords.length).toBeGreaterThan(5);
    expect(readFileSync(`${root}CHANGELOG.md`, "utf8")).toMatch(/^## \[(Unreleased|\d+\.\d+\.\d+)\]/m);
  });
});

it("the README begins with an installation and an example of at most ten lines", () => {
  const [, install, example] = /^# birkhoff\n\n {4}(.*)\n\n```js\n([\s\S]*?)```\n/.exec(
    readFileSync(`${root}README.md`, "utf8"),
  )!;
  expect(install).toBe("npm install birkhoff");
  expect(example!.trimEnd().split("\n").length).toBeLessThanOrEqual(10);
  expect(example).toContain("data.sampleText()");
});
