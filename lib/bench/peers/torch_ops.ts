/** The hyper-connection ops in PyTorch on the same GPU (ops_torch.py): a process beside this one, asked for a pass at a time. */
import type { Case } from "../support/cases.ts";
import type { FlushSizes, Guest } from "../support/gpu.ts";
import { peerProgram } from "../support/package_root.ts";
import type { Report } from "../support/report.ts";
import { PeerMissing, PeerProcess } from "./process.ts";

export class TorchOps {
  readonly #peer: PeerProcess;

  private constructor(peer: PeerProcess) {
    this.#peer = peer;
  }

  /** Undefined, with a message, where there is no PyTorch. */
  static async start(flush: FlushSizes, report: Report): Promise<TorchOps | undefined> {
    try {
      const peer = await PeerProcess.start({
        name: "pytorch",
        command: process.env.BIRKHOFF_BENCH_PYTHON ?? "python3",
        args: [peerProgram("ops_torch.py"), String(flush.written), String(flush.read)],
        howTo: "Install PyTorch with CUDA for python3, or name another Python in BIRKHOFF_BENCH_PYTHON.",
      });
      report.say(peer.info.description);
      return new TorchOps(peer);
    } catch (error) {
      if (!(error instanceof PeerMissing)) throw error;
      report.say(error.message);
      return undefined;
    }
  }

  /** Builds and compiles the op of a case; what can be timed of it. A form that PyTorch cannot run is named and left out. */
  async prepare(c: Case, report: Report): Promise<readonly Guest[]> {
    const answer = await this.#peer.ask(`case ${JSON.stringify({ ...c.peer, dtype: c.dtype })}`, "prepared");
    const { forms, failed } = JSON.parse(answer) as { forms: string[]; failed: Record<string, string> };
    for (const [form, reason] of Object.entries(failed)) report.say(`pytorch ${form}: skipped, ${reason}`);
    return forms.map((form) => ({
      name: `pytorch ${form}`,
      run: async (count) => (await this.#peer.ask(`run ${count} ${form}`, "times")).split(" ").map(Number),
    }));
  }

  stop(): void {
    this.#peer.stop();
  }
}
