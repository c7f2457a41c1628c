/** A peer: a child process that holds the same connection and speaks lines (see connection_torch.py). */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { BirkhoffError } from "../../errors.ts";

/** A peer computes something else, or ended while it was measured; exit code 1. */
export class PeerError extends BirkhoffError {}

/** The peer cannot run here; the message says how to get it. */
export class PeerMissing extends Error {}

export interface PeerSpec {
  name: string;
  command: string;
  args: string[];
  /** Shown when the peer cannot be started. */
  howTo: string;
}

export class PeerProcess {
  readonly name: string;
  info: { description: string; first_pass_s: number } = { description: "", first_pass_s: 0 };
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  #errors = "";
  readonly #kill = () => this.#child.kill();

  private constructor(spec: PeerSpec) {
    this.name = spec.name;
    this.#child = spawn(spec.command, spec.args, { stdio: "pipe" });
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.#errors = (this.#errors + text).slice(-4000);
    });
    // A command that does not exist, or a pipe whose reader died: both show as an end of output below.
    this.#child.on("error", (error) => {
      this.#errors += error.message;
    });
    this.#child.stdin.on("error", () => {});
    process.once("exit", this.#kill);
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Starts the peer and waits until it has compiled. @throws {PeerMissing} */
  static async start(spec: PeerSpec): Promise<PeerProcess> {
    const peer = new PeerProcess(spec);
    try {
      peer.info = JSON.parse(await peer.#reply("ready"));
      return peer;
    } catch (error) {
      peer.stop();
      throw new PeerMissing(`${spec.name}: skipped, ${(error as Error).message}. ${spec.howTo}`);
    }
  }

  /** The line of its messages that says what went wrong. */
  #lastWords(): string {
    const lines = this.#errors.trim().split("\n");
    const line = lines.findLast((line) => /\bError\b|Error:|ENOENT/.test(line)) ?? lines.at(-1);
    return line || "it ended without a message";
  }

  async #reply(keyword: string): Promise<string> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done) throw new PeerError(this.#lastWords());
      // Libraries print as well; only a line with the keyword is an answer.
      if (value === keyword || value.startsWith(`${keyword} `)) return value.slice(keyword.length + 1);
    }
  }

  /** Sends a line; the rest of the line that answers it with `keyword`. @throws {PeerError} the peer ended */
  async ask(line: string, keyword: string): Promise<string> {
    this.#child.stdin.write(`${line}\n`);
    try {
      return await this.#reply(keyword);
    } catch (error) {
      throw new PeerError(`bench: ${this.name} ended: ${(error as Error).message}`);
    }
  }

  /** Milliseconds of `count` passes. */
  async run(count: number): Promise<number[]> {
    return (await this.ask(`run ${count}`, "times")).split(" ").map(Number);
  }

  /** Has the results written to files `prefix`.y, .dx, … in the folder it was started with. */
  async check(prefix: string): Promise<void> {
    await this.ask(`check ${prefix}`, "checked");
  }

  stop(): void {
    process.off("exit", this.#kill);
    this.#child.stdin.end("quit\n");
    this.#child.kill();
  }
}
