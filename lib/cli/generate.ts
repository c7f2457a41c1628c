/** `birkhoff generate`: continues a prompt with a model that `birkhoff train --out` saved. */
import { join } from "node:path";
import { CharTokenizer } from "../data/text.ts";
import { setDevice, setThreads } from "../device.ts";
import { CheckpointError, DataError } from "../errors.ts";
import { GPT } from "../nn/gpt.ts";
import { generate } from "../train/sample.ts";
import { type Flags, helpText, parseFlags, Values } from "./arguments.ts";
import { type RunConfig, readConfig } from "./run_folder.ts";

export const flags: Flags = {
  model: { value: "DIR", help: "folder written by birkhoff train --out" },
  prompt: { value: "TEXT", help: "text to continue (token numbers for a model of a token file)" },
  "max-tokens": { value: "N", help: "tokens to generate (default 200)" },
  temperature: { value: "X", help: "0 takes the most likely token (default 0.8)" },
  "top-k": { value: "N", help: "draw among the k most likely (default all)" },
  seed: { value: "N", help: "of the draws (default 0)" },
  threads: { value: "N", help: "CPU threads (default all cores)" },
  device: { value: "NAME", help: "auto, cpu, cuda, cuda:1 (default auto)" },
  json: { help: "one JSON object: prompt, text, tokens" },
};

export const help = () =>
  helpText("birkhoff generate --model DIR [flags]", "Continues a prompt with a trained model.", flags);

const defaults = { "max-tokens": 200, temperature: 0.8, seed: 0, device: "auto" };

/** Runs the command. @returns the exit code */
export async function run(argv: readonly string[]): Promise<number> {
  const given = parseFlags("generate", flags, argv);
  if (given.has("help")) {
    process.stdout.write(help());
    return 0;
  }
  const args = new Values("generate", given, defaults);
  const folder = args.string("model");
  if (folder === undefined) throw args.bad("model", "a folder written by birkhoff train --out");
  const maxTokens = args.integer("max-tokens", 1);
  const temperature = args.number("temperature", 0);
  const topK = args.has("top-k") ? args.integer("top-k", 1) : undefined;
  const seed = args.integer("seed", 0, 2 ** 32 - 1);
  setDevice(args.string("device")!);
  if (args.has("threads")) setThreads(args.integer("threads", 1, 256));

  const config = await readConfig(folder);
  using model = build(config, folder);
  await model.load(join(folder, "model.safetensors"));
  const tokenizer = config.vocabulary ? new CharTokenizer(config.vocabulary) : undefined;
  const text = args.string("prompt");
  const prompt = tokenizer ? encode(tokenizer, text) : numbers(text, model.options.vocab);
  const show = (tokens: readonly number[]) => tokenizer?.decode(tokens) ?? tokens.map((t) => `${t} `).join("");

  const interrupt = new AbortController();
  const onInterrupt = () => interrupt.abort();
  process.once("SIGINT", onInterrupt);
  try {
    const json = given.has("json");
    const tokens: number[] = [];
    if (!json) process.stdout.write(show(prompt));
    const options = { maxTokens, temperature, topK, seed, signal: interrupt.signal };
    for await (const token of generate(model, prompt, options)) {
      tokens.push(token);
      if (!json) process.stdout.write(show([token]));
    }
    process.stdout.write(json ? `${JSON.stringify({ prompt: show(prompt), text: show(tokens), tokens })}\n` : "\n");
    return interrupt.signal.aborted ? 130 : 0;
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}

function build(config: RunConfig, folder: string): GPT {
  try {
    return new GPT({ ...config.model, device: undefined });
  } catch (error) {
    throw new CheckpointError(`generate: ${join(folder, "config.json")} is damaged: ${(error as Error).message}`);
  }
}

function encode(tokenizer: CharTokenizer, text: string | undefined): number[] {
  const usual = tokenizer.vocabulary.includes("\n") ? "\n" : tokenizer.vocabulary[0]!;
  if (text === "") throw new DataError("generate: --prompt is empty, want at least one character");
  return [...tokenizer.encode(text ?? usual)];
}

function numbers(text: string | undefined, vocab: number): number[] {
  const tokens = (text ?? "0")
    .split(/[\s,]+/)
    .filter(Boolean)
    .map(Number);
  if (tokens.length === 0 || !tokens.every((t) => Number.isInteger(t) && t >= 0 && t < vocab))
    throw new DataError(
      `generate: --prompt is ${JSON.stringify(text)}, want token numbers from 0 to ${vocab - 1}: the model has no vocabulary of characters`,
    );
  return tokens;
}
