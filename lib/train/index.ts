/** Training, evaluation and sampling of language models. */

export type { SafetensorsFile, TensorEntry } from "../files/safetensors.ts";
export { readSafetensors, writeSafetensors } from "../files/safetensors.ts";
export type { EvaluateOptions, LanguageModel } from "./evaluate.ts";
export { evaluate } from "./evaluate.ts";
export type { FitOptions, Metrics, Trainable } from "./fit.ts";
export { fit } from "./fit.ts";
export type { GenerateOptions, SampleOptions } from "./sample.ts";
export { generate, sampleToken } from "./sample.ts";
