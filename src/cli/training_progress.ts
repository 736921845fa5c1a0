import type { RunResult } from "../train/run_node.ts";
import type { TrainingProgress } from "../train/trainer.ts";
import { note } from "./output.ts";

/** Shows on stderr how training goes. */
export interface TrainingProgressLine {
  update(progress: TrainingProgress): void;
  stop(): void;
}

/** Between lines where stderr is no terminal. */
const LINE_EVERY_MS = 10_000;
/** Share that the newest update has in the mean speed. */
const SMOOTHING = 0.1;

/**
 * Step, loss, tokens a second and time left: one line that is written over on a terminal, else a line every ten seconds; evaluations
 * always have a line.
 */
export function trainingProgress(): TrainingProgressLine {
  const terminal = process.stderr.isTTY === true;
  let meanMs = 0;
  let tokensPerMs = 0;
  let updates = 0;
  let lastLine = Number.NEGATIVE_INFINITY;
  let open = false;
  const clear = () => {
    if (open) process.stderr.write("\r\u001b[K");
    open = false;
  };
  return {
    update(progress) {
      const { step, steps, loss, tokens, elapsedMs, validationLoss, finished } = progress;
      // The first update also compiles kernels: the second one begins the means.
      const blend = (mean: number, value: number) => (updates < 2 ? value : mean + SMOOTHING * (value - mean));
      meanMs = blend(meanMs, elapsedMs);
      tokensPerMs = blend(tokensPerMs, tokens / elapsedMs);
      updates++;
      const left = formatDuration(((steps - step) * meanMs) / 1000);
      const speed = `${Math.round(1000 * tokensPerMs)} tokens/s`;
      const held =
        validationLoss === undefined ? "" : ` · held-out loss ${validationLoss.toFixed(4)}${bestSoFar(progress)}`;
      const ahead = updates > 1 || step === steps ? ` · ${left} left` : "";
      const line = `step ${step}/${steps} · loss ${loss.toFixed(4)}${held} · ${speed}${ahead}`;
      const due = performance.now() - lastLine >= LINE_EVERY_MS;
      if (held || finished || (!terminal && due)) {
        clear();
        note(line);
        lastLine = performance.now();
      } else if (terminal) {
        process.stderr.write(`\r${line}\u001b[K`);
        open = true;
      }
    },
    stop: clear,
  };
}

/** How an evaluation compares with those before it. */
function bestSoFar({ best, bestStep, bestLoss }: TrainingProgress): string {
  if (bestStep === undefined || bestLoss === undefined) return "";
  return best ? " (the best so far)" : ` (best: ${bestLoss.toFixed(4)} at step ${bestStep})`;
}

/** Which update was the best, and whose weights were saved, for the line that says how a run ended. */
export function keptLine({ steps, keptStep, bestStep, bestLoss }: Omit<RunResult, "scores">): string {
  if (bestStep === undefined || bestLoss === undefined) return "";
  const best = `best held-out loss ${bestLoss.toFixed(4)} at step ${bestStep}`;
  if (keptStep === bestStep) return `; ${best}, whose weights were saved`;
  return `; ${best}; the weights of step ${keptStep}${keptStep === steps ? ", the last," : ""} were saved`;
}

/** `1 h 05 min`, `3 min 20 s` or `12 s`. */
function formatDuration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60)];
  const two = (n: number) => String(n).padStart(2, "0");
  if (hours > 0) return `${hours} h ${two(minutes)} min`;
  return minutes > 0 ? `${minutes} min ${two(whole % 60)} s` : `${whole} s`;
}
