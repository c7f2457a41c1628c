// Which known name a misspelt one is taken for, in messages about options, flags and commands.
import { expect, it } from "vitest";
import { nearest } from "../lib/nearest.ts";

it.each<[string, string[], string[]]>([
  ["stpes", ["seed", "steps"], ["steps"]],
  ["axes", ["axis"], ["axis"]],
  ["weight_decay", ["lr", "weightDecay"], ["weightDecay"]],
  ["weight-decay", ["lr", "weightDecay"], ["weightDecay"]],
  ["LR", ["lr", "eps"], ["lr"]],
  ["transpose", ["transposeA", "transposeB"], ["transposeA", "transposeB"]],
  ["learningRate", ["batch", "lr", "log"], ["lr"]],
  ["batchSize", ["batch", "lr"], ["batch"]],
  ["iterations", ["eps", "iters"], ["iters"]],
  ["wd", ["weightDecay", "betas"], ["weightDecay"]],
  ["xy", ["lr", "eps"], []],
  ["momentum", ["lr", "betas", "eps", "weightDecay"], []],
  ["", ["lr", "axis"], []],
  ["a".repeat(1e6), ["axis"], []],
])("%.20s among %j: %j", (name, known, near) => expect(nearest(name, known)).toEqual(near));
