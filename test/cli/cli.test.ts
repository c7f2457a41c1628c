// The command as its user meets it: exit codes, messages, files, signals.
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nn, train as trainer } from "../../lib/index.ts";
import { birkhoff } from "../support/cli.ts";
import { tinyText } from "../support/tiny.ts";

let folder: string;
let text: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "birkhoff-cli-"));
  text = join(folder, "text.txt");
  await writeFile(text, tinyText);
});
afterAll(() => rm(folder, { recursive: true }));

const tiny = ["--dim", "16", "--layers", "1", "--heads", "2", "--context", "8", "--batch", "2", "--log-every", "2"];
// What the command does is the same on every device, and on "auto" each process would start the GPU's driver.
const onCpu = ["--device", "cpu"];
const train = (...more: string[]) => ["train", "--data", text, ...tiny, ...onCpu, ...more];

describe("birkhoff", () => {
  it("shows help and version", async () => {
    const results = await Promise.all([
      birkhoff(["--help"]),
      birkhoff(["train", "--help"]),
      birkhoff(["generate", "--help"]),
      birkhoff(["doctor", "--help"]),
      birkhoff(["--version"]),
      birkhoff([]),
    ]);
    expect(results.map((r) => r.code)).toEqual([0, 0, 0, 0, 0, 2]);
    expect(results[0]!.stdout).toMatch(/train[\s\S]*generate[\s\S]*doctor/);
    expect(results[1]!.stdout).toMatch(/--residual KIND[\s\S]*--weight-decay[\s\S]*Ctrl-C/);
    expect(results[2]!.stdout).toContain("--temperature");
    expect(results[4]!.stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(results[5]!.stderr).toContain("usage");
  });

  it("keeps every help within 80 columns", async () => {
    const commands = [...(await birkhoff(["--help"])).stdout.matchAll(/^ {2}(\w+) /gm)].map(([, name]) => name!);
    expect(commands).toContain("build");
    const helps = await Promise.all(["", ...commands].map((name) => birkhoff([name, "--help"].filter(Boolean))));
    expect(helps.flatMap(({ stdout }) => stdout.split("\n").filter((line) => line.length > 80))).toEqual([]);
  });

  it.each([
    [["tran"], /unknown command "tran", did you mean train\?/],
    [["train", "--stpes", "5"], /train: unknown flag --stpes, did you mean --steps\?/],
    [["train", "extra"], /got the word "extra"/],
    [["train"], /--data is missing, want a text file/],
    [["train", "--data"], /--data has no value, want --data FILE/],
    [["train", "--data", "x", "--json=yes"], /--json is "yes", want no value/],
    [["train", "--data", "x", "--data", "y"], /--data is given twice/],
    [["train", "--data", "x", "--steps", "0"], /--steps is 0, want an integer at least 1/],
    [["train", "--data", "x", "--steps", "NaN"], /--steps is NaN, want an integer at least 1/],
    [["train", "--data", "x", "--lr", ""], /--lr is , want a number at least 0/],
    [["train", "--data", "x", "--heads", "3"], /--heads is 3, want a divisor of --dim 128/],
    [["train", "--data", "x", "--streams", "3"], /--streams is 3, want 1, 2, 4 or 8/],
    [["train", "--data", "x", "--residual", "plain", "--streams", "4"], /--streams is 4, want 1 with --residual plain/],
    [["train", "--data", "x", "--residual", "hc"], /--residual is hc, want one of plain, mhc/],
    [["train", "--data", "x", "--dtype", "float16"], /--dtype is float16, want one of float32, bfloat16/],
    [["train", "--data", "x", "--preset", "big"], /--preset is big, want one of demo, nanogpt-cpu/],
    [["train", "--data", "x", "--threads", "0"], /--threads is 0, want an integer from 1 to 256/],
    [["train", "--data", "x", "--device", "tpu"], /device is "tpu", want "auto" or one of cpu/],
    [["train", "--data", "/nonexistent.txt"], /cannot read \/nonexistent\.txt/],
    [["generate"], /--model is missing/],
    [["generate", "--model", "/nonexistent"], /cannot read \/nonexistent\/config\.json/],
    [["generate", "--model", "x", "--temperature", "-1"], /--temperature is -1, want a number at least 0/],
    [["doctor", "--jsn"], /unknown flag --jsn, did you mean --json\?/],
  ])("%j exits 2 with one line", async (args, message) => {
    const { code, stdout, stderr } = await birkhoff(args);
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^birkhoff: [^\n]*\n$/);
    expect(stdout).toBe("");
    expect(code).toBe(2);
  });

  it("says what is wrong with a text", async () => {
    const empty = join(folder, "empty.txt");
    const short = join(folder, "short.txt");
    await writeFile(empty, "");
    await writeFile(short, "to be or not");
    const results = await Promise.all([
      birkhoff(["train", "--data", empty, ...onCpu]),
      birkhoff(["train", "--data", short, ...onCpu, "--out", join(folder, "never")]),
    ]);
    expect(results.map((r) => r.code)).toEqual([2, 2]);
    expect(results[0]!.stderr).toMatch(/empty\.txt is empty \(0 characters\)/);
    expect(results[1]!.stderr).toMatch(/dataset\.train has 10 tokens, want at least 65: context 64/);
    expect(await readdir(folder)).not.toContain("never");
  });

  it("trains, writes its files, and generates from them", async () => {
    const out = join(folder, "run");
    const { code, stdout, stderr } = await birkhoff(train("--steps", "6", "--out", out, "--sample", "10"));
    expect(stderr).toBe("");
    expect(code).toBe(0);
    expect(stdout.split("\n").filter((l) => /^step +\d+\/6 {2}loss \d/.test(l)).length).toBe(4);
    expect(stdout).not.toContain("\r");
    expect((await readdir(out)).sort()).toEqual(["config.json", "metrics.jsonl", "model.safetensors", "timing.jsonl"]);
    const rows = (await readFile(join(out, "metrics.jsonl"), "utf8"))
      .trim()
      .split("\n")
      .map((l) => JSON.parse(l) as Record<string, number>);
    expect(rows.map((r) => r.step)).toEqual([1, 2, 4, 6]);
    for (const key of [
      "train/loss",
      "train/grad_norm",
      "train/lr",
      "connection/1/backward_gain",
      "composite/row_error",
    ])
      expect(rows[0]![key], key).toBeTypeOf("number");
    expect(rows.at(-1)!["eval/loss"]).toBeTypeOf("number");

    const args = ["generate", "--model", out, "--prompt", "the ", "--max-tokens", "12", "--seed", "1", ...onCpu];
    const [a, b] = await Promise.all([birkhoff(args), birkhoff([...args, "--json"])]);
    expect([a.code, b.code]).toEqual([0, 0]);
    const parsed = JSON.parse(b.stdout) as { prompt: string; text: string; tokens: number[] };
    expect(a.stdout).toBe(`the ${parsed.text}\n`);
    expect(parsed.tokens.length).toBe(12);
    const unknown = await birkhoff(["generate", "--model", out, "--prompt", "THE", ...onCpu]);
    expect(unknown.code).toBe(2);
    expect(unknown.stderr).toMatch(/text\[0\] is "T", want one of the \d+ characters/);

    const model = join(out, "model.safetensors");
    await writeFile(model, (await readFile(model)).subarray(0, 500));
    const damaged = await birkhoff(args);
    expect(damaged.code).toBe(2);
    expect(damaged.stderr).toMatch(/^birkhoff: load: .*model\.safetensors is damaged/);
  });

  it("--dtype bfloat16 trains another run, with float32 weights, and generate computes in it", async () => {
    const runs = await Promise.all(
      ["float32", "bfloat16"].map(async (dtype) => {
        const out = join(folder, dtype);
        const { code, stderr } = await birkhoff(train("--steps", "20", "--dtype", dtype, "--out", out));
        expect([code, stderr]).toEqual([0, ""]);
        const rows = (await readFile(join(out, "metrics.jsonl"), "utf8")).trim().split("\n");
        const config = JSON.parse(await readFile(join(out, "config.json"), "utf8"));
        expect([config.model.dtype, config.training.dtype]).toEqual([dtype, dtype]);
        const weights = await readFile(join(out, "model.safetensors"));
        const header = weights.toString("utf8", 8, 8 + Number(weights.readBigUInt64LE()));
        expect(new Set(header.match(/"dtype":"\w+"/g))).toEqual(new Set(['"dtype":"F32"']));
        return { out, rows: rows.map((l) => JSON.parse(l) as Record<string, number>) };
      }),
    );
    const [exact, rounded] = runs.map(({ rows }) => rows.map((row) => row["train/loss"]!));
    expect(rounded).not.toEqual(exact);
    // The same initial weights: the first losses differ by the rounding of four numbers in a row (embedding, streams, norm,
    // logits), all below 1 at the start, each by at most 2⁻⁸.
    expect(Math.abs(rounded![0]! - exact![0]!)).toBeLessThan(4 * 2 ** -8);

    const { out } = runs[1]!;
    const config = JSON.parse(await readFile(join(out, "config.json"), "utf8"));
    using model = new nn.GPT(config.model);
    await model.load(join(out, "model.safetensors"));
    const options = { maxTokens: 30, temperature: 0.8, seed: 3 };
    const tokens: number[] = [];
    for await (const token of trainer.generate(model, [1], options)) tokens.push(token);
    const prompt = config.vocabulary[1];
    const flags = ["--prompt", prompt, "--max-tokens", "30", "--temperature", "0.8", "--seed", "3", "--json"];
    const { code, stdout } = await birkhoff(["generate", "--model", out, ...flags, ...onCpu]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).tokens).toEqual(tokens);
  });

  it("gives identical metrics files for equal seeds, at 1 and 2 threads, and with --graph", async () => {
    const files = await Promise.all(
      [["1"], ["2"], ["1", "--graph"]].map(async (threads, k) => {
        const out = join(folder, `same${k}`);
        const { code } = await birkhoff(train("--steps", "8", "--seed", "5", "--out", out, "--threads", ...threads));
        expect(code).toBe(0);
        return Promise.all(["metrics.jsonl", "model.safetensors"].map((f) => readFile(join(out, f), "base64")));
      }),
    );
    expect(files[1]).toEqual(files[0]);
    expect(files[2]).toEqual(files[0]);
  });

  it("prints JSON lines only with --json", async () => {
    const { code, stdout } = await birkhoff(train("--steps", "4", "--json", "--sample", "5", "--residual", "plain"));
    expect(code).toBe(0);
    const events = stdout
      .trim()
      .split("\n")
      .map((l) => JSON.parse(l) as Record<string, unknown>);
    expect(events.map((e) => e.event)).toEqual(["start", "step", "step", "step", "end", "sample"]);
    expect(events[1]).toMatchObject({ step: 1 });
    expect(events[1]!["train/tokens_per_second"]).toBeTypeOf("number");
    expect(events[4]).toMatchObject({ interrupted: false, step: 4 });
  });

  it("stops on SIGINT, saves, and exits 130", async () => {
    const out = join(folder, "stopped");
    let sent = 0;
    const { code, signal, stderr } = await birkhoff(train("--steps", "1000000", "--out", out), {
      onOutput: (output, child) => {
        if (!sent && output.includes("step") && output.includes("loss")) {
          sent = performance.now();
          child.kill("SIGINT");
        }
      },
    });
    expect(stderr).toBe("");
    expect([code, signal]).toEqual([130, null]);
    expect((await readdir(out)).sort()).toEqual(["config.json", "metrics.jsonl", "model.safetensors", "timing.jsonl"]);
    const { code: generated } = await birkhoff(["generate", "--model", out, "--max-tokens", "3", ...onCpu]);
    expect(generated).toBe(0);
  });

  it("refuses an output folder that cannot be made, before it trains", async () => {
    const { code, stderr, stdout } = await birkhoff(train("--steps", "2", "--out", join(text, "run")));
    expect(code).toBe(2);
    expect(stderr).toMatch(/^birkhoff: train: --out .*text\.txt\/run cannot be written: [^\n]*\n$/);
    expect(stdout).toBe("");
  });

  it.each([
    ["metrics", 1, /cannot write .*metrics\.jsonl/],
    ["model", 12, /cannot write .*model\.safetensors/],
  ])("a full disk while writing the %s exits 2 and leaves whole files only", async (name, blocks, message) => {
    // A limit of the file size fails like a full disk: a short write first, then an error.
    const out = join(folder, `full-${name}`);
    const { code, stderr } = await birkhoff(train("--steps", "4", "--out", out), { before: `ulimit -f ${blocks}` });
    expect(stderr).toMatch(message);
    expect(stderr).toMatch(/^birkhoff: [^\n]*\n$/);
    expect(code).toBe(2);
    const files = await readdir(out);
    expect(files).not.toContain("model.safetensors");
    expect(files.filter((f) => f.endsWith(".tmp"))).toEqual([]);
    for (const file of files)
      for (const line of (await readFile(join(out, file), "utf8")).split("\n")) if (line) JSON.parse(line);
  });

  it("doctor tells about addon, threads and devices", async () => {
    const [plain, json] = await Promise.all([birkhoff(["doctor"]), birkhoff(["doctor", "--json"])]);
    expect([plain.code, json.code]).toEqual([0, 0]);
    for (const word of ["node", "glibc", "addon", "SIMD", "GEMM", "threads", "cpu", "cuda"])
      expect(plain.stdout).toContain(word);
    const found = JSON.parse(json.stdout) as { addon: { loaded: boolean }; simd: string; devices: object[] };
    expect(found.addon.loaded).toBe(true);
    expect(found.devices.length).toBeGreaterThan(0);
  });

  it("doctor works where the addon does not load", async () => {
    const { code, stdout, stderr } = await birkhoff(["doctor"], { before: "export BIRKHOFF_ADDON=/nonexistent.node" });
    expect(stderr).toBe("");
    expect(code).toBe(1);
    expect(stdout).toMatch(/addon +not loaded: .*nonexistent\.node/);
    const failed = await birkhoff(train("--steps", "1"), { before: "export BIRKHOFF_ADDON=/nonexistent.node" });
    expect(failed.code).toBe(1);
    expect(failed.stderr).toMatch(/^birkhoff: no native addon for [^\n]*\n$/);
  });
});
