/** What a run shows: one line rewritten in place on a terminal, one line per logged step in a pipe, or JSON lines. */
import type { Metrics } from "../train/fit.ts";
import { metricsRow, timingRow } from "./run_folder.ts";

/** Seconds as "1h 02m", "3m 05s" or "12s". */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  const two = (v: number) => String(v).padStart(2, "0");
  if (s >= 3600) return `${Math.floor(s / 3600)}h ${two(Math.floor((s % 3600) / 60))}m`;
  return s >= 60 ? `${Math.floor(s / 60)}m ${two(s % 60)}s` : `${s}s`;
}

/** One line of text for a logged step. */
export function metricsLine(m: Metrics, steps: number): string {
  const left = (m.seconds / m.step) * (steps - m.step);
  const parts = [
    `step ${String(m.step).padStart(String(steps).length)}/${steps}`,
    `loss ${m.loss.toFixed(4)}`,
    `gradient norm ${m.gradNorm.toFixed(3)}`,
    `${Math.round(m.tokensPerSecond)} tokens/s`,
    `${duration(left)} left`,
  ];
  if (m.heldOutLoss !== undefined) parts.push(`held-out loss ${m.heldOutLoss.toFixed(4)}`);
  if (m.diagnostics)
    parts.push(`gain ${m.diagnostics.composite.forward.toFixed(3)}/${m.diagnostics.composite.backward.toFixed(3)}`);
  return parts.join("  ");
}

export interface Reporter {
  /** A remark; not shown with --json. */
  note(text: string): void;
  step(metrics: Metrics): void;
  /** With --json, an object of its own line; else nothing. */
  event(value: Record<string, unknown>): void;
  /** Leaves the terminal on a fresh line. */
  end(): void;
}

/** @param output  standard output, or what stands in for it in tests */
export function reporter(
  output: { write(text: string): unknown; isTTY?: boolean; columns?: number },
  options: { json: boolean; steps: number },
): Reporter {
  const { json, steps } = options;
  const line = (text: string) => output.write(`${text}\n`);
  if (json)
    return {
      note: () => {},
      step: (m) => line(JSON.stringify({ event: "step", ...metricsRow(m), ...timingRow(m) })),
      event: (value) => line(JSON.stringify(value)),
      end: () => {},
    };
  if (!output.isTTY) return { note: line, step: (m) => line(metricsLine(m, steps)), event: () => {}, end: () => {} };
  let open = false;
  const end = () => {
    if (open) output.write("\n");
    open = false;
  };
  return {
    note: (text) => {
      end();
      line(text);
    },
    step: (m) => {
      output.write(`\r\x1b[K${metricsLine(m, steps).slice(0, (output.columns ?? 80) - 1)}`);
      open = true;
      // An evaluation is worth keeping on the screen.
      if (m.heldOutLoss !== undefined) end();
    },
    event: () => {},
    end,
  };
}
