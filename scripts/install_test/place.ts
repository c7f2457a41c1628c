/** Where programs run: a folder of this machine, or one in the root of another system, with nothing on PATH but the runtime. */
import { spawnSync } from "node:child_process";
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { basename, join } from "node:path";

export interface Outcome {
  code: number | null;
  stdout: string;
  stderr: string;
}

// Bun and Deno look into /proc; it is mounted for the program alone.
const script = '/bin/mount -t proc proc "$0/proc" && exec /usr/sbin/chroot "$0" "$@"';
const enter = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script];

export class Place {
  /** @param root  "/" or the root of the other system   @param folder  the place, seen from here */
  private constructor(
    readonly name: string,
    private readonly root: string,
    readonly folder: string,
  ) {}

  /** A new folder; `remove` it afterwards. @param parent  seen from within the root */
  static make(name: string, root: string, parent: string): Place {
    mkdirSync(join(root, parent), { recursive: true });
    return new Place(name, root, mkdtempSync(join(root, parent, "birkhoff-install-")));
  }

  /** The same folder with its packages in the other system. */
  copyTo(other: Place): void {
    cpSync(this.folder, other.folder, { recursive: true, verbatimSymlinks: true });
  }

  /** A path of this place as the programs in it see it. */
  inside(path = ""): string {
    const seen = this.root === "/" ? this.folder : this.folder.slice(this.root.length);
    return join(seen, path);
  }

  /** Copies a runtime into a folder of its own, which is all of PATH. @returns that folder, seen from inside */
  runtime(binary: string): string {
    const bin = `bin-${basename(binary)}`;
    rmSync(join(this.folder, bin), { recursive: true, force: true });
    mkdirSync(join(this.folder, bin));
    copyFileSync(binary, join(this.folder, bin, basename(binary)));
    return this.inside(bin);
  }

  run(bin: string, command: readonly string[]): Outcome {
    const [program, ...args] = this.root === "/" ? command : [...enter, this.root, ...command];
    const [folder, cache, text] = [this.inside(), this.inside("deno"), this.inside("text.txt")];
    const env = { PATH: bin, HOME: folder, TMPDIR: folder, DENO_DIR: cache, TEXT: text, NO_COLOR: "1" };
    const options = { cwd: this.folder, encoding: "utf8", timeout: 180_000, env } as const;
    const { status, stdout, stderr, error } = spawnSync(program!, args, options);
    return { code: status, stdout: stdout ?? "", stderr: `${stderr ?? ""}${error?.message ?? ""}` };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
