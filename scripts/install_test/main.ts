/**
 * Installs the packed package into an empty folder and trains by every runtime and way of loading, with nothing on PATH but the
 * runtime: here and in the root of Debian 11; the losses must agree to the last digit. Then: no addon, bundlers, the README.
 *
 * Exit codes: 0 all well, 1 something failed, 2 a wrong flag, 3 all that ran was well, and the part in Debian 11 did not run.
 */
import { existsSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import * as check from "./checks.ts";
import { Place } from "./place.ts";
import { files, trainFlags, type Way, ways, writePrograms } from "./programs.ts";
import { Failure, install, makeTarball, type Runtime, runtimes } from "./tarball.ts";

const root = join(import.meta.dirname, "../..");
const cache = join(root, "build-install");
const usage = `usage: npm run test:install -- [--addon FILE] [--root DIR] [--no-build]

  --addon FILE   ships this file as the prebuilt addon (default: prebuilds/)
  --root DIR     root of a Debian 11 system (default build-prebuilds/bullseye)
  --no-build     leaves out npx birkhoff build, which takes a minute or two`;

let failures = 0;
let wanted: string | undefined;

function row(where: string, runtime: string, way: string, loss: string, finding: string): void {
  if (finding) failures++;
  const columns = [where.padEnd(10), runtime.padEnd(13), way.padEnd(22), loss.padEnd(20)];
  console.log(`${columns.join("")}${finding ? "FAILED" : "ok"}`);
  // Of a stack trace the line that says what it is.
  const lines = finding.split("\n");
  if (finding)
    console.log(`  ${(lines.find((line) => /Error\]?: |error: |panic/.test(line)) ?? lines[0])!.trim().slice(0, 600)}`);
}

/** Losses of both numbers of threads as the way prints them. @throws {Failure} */
function losses(place: Place, bin: string, { start }: Pick<Runtime, "start">, way: Way | string): number[][] {
  const [program, ...flags] = [`${bin}/${start[0]}`, ...start.slice(1)];
  const train = (command: string[]) => {
    const { code, stdout, stderr } = place.run(bin, command);
    if (code !== 0 || !stdout.trim()) throw new Failure(`exit code ${code}: ${stderr.trim() || stdout.trim()}`);
    return stdout;
  };
  if (way !== "CLI") {
    const file = files[way as keyof typeof files] ?? way;
    return JSON.parse(train([program, ...flags, place.inside(file)])) as number[][];
  }
  // npm's link starts node by its first line.
  const link = place.inside("node_modules/.bin/birkhoff");
  const cli =
    start[0] === "node" ? [link] : [program, ...flags, place.inside("node_modules/birkhoff/dist/cli/main.js")];
  return [1, 2].map((threads) => {
    const data = trainFlags.map((flag) => (flag === "text.txt" ? place.inside(flag) : flag));
    const events = train([...cli, ...data, "--threads", String(threads)])
      .trim()
      .split("\n");
    return events.flatMap((line) => (JSON.parse(line) as { "train/loss"?: number })["train/loss"] ?? []);
  });
}

/** One line of the table. */
function trains(place: Place, bin: string, runtime: Pick<Runtime, "name" | "version" | "start">, way: string): void {
  let loss = "";
  let finding = "";
  try {
    const [one, two] = losses(place, bin, runtime, way).map((list) => JSON.stringify(list));
    loss = String(JSON.parse(one!).at(-1));
    wanted ??= one!;
    if (JSON.parse(one!).length !== 5) finding = `5 losses are wanted, came ${one}`;
    else if (one !== wanted || two !== wanted) finding = `losses ${one} and ${two} (1 and 2 threads), want ${wanted}`;
  } catch (error) {
    finding = error instanceof Failure || error instanceof SyntaxError ? error.message : String((error as Error).stack);
  }
  row(place.name, `${runtime.name} ${runtime.version}`, way, loss, finding);
}

async function main(): Promise<number> {
  const options = { addon: { type: "string" }, root: { type: "string" }, "no-build": { type: "boolean" } } as const;
  let values: { addon?: string; root?: string; "no-build"?: boolean };
  try {
    ({ values } = parseArgs({ options }));
    if (values.addon && !existsSync(values.addon)) throw new Error(`--addon ${values.addon}: there is no such file`);
    if (values.root && !existsSync(values.root)) throw new Error(`--root ${values.root}: there is no such folder`);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    return 2;
  }
  mkdirSync(cache, { recursive: true });
  const places: Place[] = [];
  try {
    const tarball = makeTarball(root, cache, values.addon && resolve(values.addon));
    const available = runtimes(cache);
    // Outside of the checkout, whose tsconfig.json some tools would read.
    const here = Place.make("here", "/", tmpdir());
    places.push(here);
    install(here.folder, tarball);
    writePrograms(here.folder);
    console.log(`${"where".padEnd(10)}${"runtime".padEnd(13)}${"way".padEnd(22)}${"loss of step 5".padEnd(20)}result`);

    const debian = values.root ?? join(root, "build-prebuilds/bullseye");
    const hasDebian = existsSync(join(debian, "usr")) && process.getuid?.() === 0;
    if (hasDebian) {
      const there = Place.make("Debian 11", resolve(debian), "/opt");
      places.push(there);
      here.copyTo(there);
    }
    for (const place of places)
      for (const runtime of available) {
        const bin = place.runtime(runtime.binary);
        for (const way of ways) trains(place, bin, runtime, way);
      }

    const node = available[0]!;
    const bin = here.runtime(node.binary);
    const other = (way: string, finding: string) => row("here", `node ${node.version}`, way, "", finding);
    other("README's example", check.readmeExample(here, bin));
    other("CLI --preset demo", check.demoPreset(here, bin));
    for (const tool of ["esbuild", "webpack"] as const) {
      trains(here, bin, node, await check.bundle(here, cache, tool, true));
      const bundled = await check.bundle(here, cache, tool, false);
      other(`${bundled}`, check.bundledMessage(here, bin, bundled));
    }
    check.removeAddon(here);
    other("no addon: typed error", check.withoutAddon(here, bin));
    if (!values["no-build"]) {
      other("npx birkhoff build", check.buildFromSource(here));
      trains(here, bin, node, "ESM");
    }

    if (values["no-build"]) console.log("npx birkhoff build was left out (--no-build)");
    if (failures) console.log(`${failures} failed`);
    else if (!hasDebian)
      console.log(
        `The part in Debian 11 did not run: it needs root's rights and ${debian} (npm run prebuilds makes it; --root)`,
      );
    return failures ? 1 : hasDebian ? 0 : 3;
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    console.error(error.message);
    return 1;
  } finally {
    for (const place of places) place.remove();
  }
}

process.exitCode = await main();
