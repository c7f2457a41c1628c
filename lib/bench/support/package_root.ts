/** Where the programs lie that the benchmark starts: lib/bench in a checkout, dist/bench in the package, as deep as each other. */
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The package's folder. */
export const packageRoot = join(import.meta.dirname, "../../..");

/** Python and JavaScript of the peers: not compiled, so in lib alone, which the package ships. */
export const peerProgram = (file: string): string => join(packageRoot, "lib/bench/peers", file);

/** A module of this folder as a file to start, with the ending of the files that run: .ts from sources, .js compiled. */
export const siblingProgram = (name: string): string =>
  fileURLToPath(new URL(`./${name}${extname(import.meta.filename)}`, import.meta.url));
