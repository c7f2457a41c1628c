/** A file of JSON lines, written as they come, so that a run that is cut short leaves what it had. */
import { closeSync, fstatSync, ftruncateSync, openSync, rmSync, writeSync } from "node:fs";
import { BirkhoffError } from "../errors.ts";

/** @internal A file or folder that was asked for cannot be written; exit code 2. */
export class OutputError extends BirkhoffError {
  constructor(message: string) {
    super(message, "ERR_OUTPUT");
  }
}

/** @internal A file of whole lines: one that cannot be written in full is taken back. */
export class LineFile {
  readonly #descriptor: number;
  readonly #path: string;
  readonly #command: string;
  #size = 0;

  /** @param command  whose errors its errors are. Replaces the file. @throws what `openSync` throws */
  constructor(path: string, command: string) {
    this.#path = path;
    this.#command = command;
    this.#descriptor = openSync(path, "w");
  }

  /** @throws {OutputError} */
  append(row: object): void {
    const bytes = Buffer.from(`${JSON.stringify(row)}\n`);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#descriptor, bytes, done);
      this.#size += bytes.length;
    } catch (error) {
      ftruncateSync(this.#descriptor, this.#size);
      throw new OutputError(`${this.#command}: cannot write ${this.#path}: ${(error as Error).message}`);
    }
  }

  /** Removes the file if it has no line. */
  close(): void {
    const own = fstatSync(this.#descriptor).isFile(); // and not /dev/null
    closeSync(this.#descriptor);
    if (own && this.#size === 0) rmSync(this.#path, { force: true });
  }
}
