import { HeedError } from "../core/errors.ts";

/** How the learning rate goes over the steps: a linear warm-up to `learningRate`, then `type`. */
export interface Schedule {
  /**
   * `constant`: stays; `linear` and `cosine`: fall towards `minimum`, which the step after the last would have (cosine: Loshchilov and Hutter, "SGDR" (2017), eq. 5);
   * `inverse_sqrt`: falls with the root of the step ("Attention Is All You Need", §5.3).
   */
  readonly type: "constant" | "linear" | "cosine" | "inverse_sqrt";
  /** The highest learning rate. */
  readonly learningRate: number;
  /** What `linear` and `cosine` fall to. Default 0. */
  readonly minimum?: number;
  /** Steps of the warm-up. Default 0; `inverse_sqrt` needs at least 1. */
  readonly warmup?: number;
}

/** The kinds of {@link Schedule}. */
const SCHEDULES = ["constant", "linear", "cosine", "inverse_sqrt"] as const;

/**
 * The learning rate of the step after `done` steps of `steps`. Warm-up: `peak · (done + 1) / (warmup + 1)`, so that the first step
 * moves and the peak follows it.
 */
export function learningRateAt(schedule: Schedule, done: number, steps: number): number {
  const { type, learningRate: peak, minimum = 0, warmup = 0 } = schedule;
  if (type === "inverse_sqrt") {
    const step = done + 1;
    return peak * Math.min(step / warmup, Math.sqrt(warmup / step));
  }
  if (done < warmup) return (peak * (done + 1)) / (warmup + 1);
  if (type === "constant") return peak;
  const progress = Math.min(1, (done - warmup) / Math.max(1, steps - warmup));
  const share = type === "linear" ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress));
  return minimum + (peak - minimum) * share;
}

/** Throws `USAGE` for a schedule that means nothing. */
export function checkSchedule({ type, learningRate, minimum = 0, warmup = 0 }: Schedule): void {
  const fail = (rule: string, got: unknown) => new HeedError("USAGE", `schedule: ${rule}; got ${String(got)}.`);
  if (!SCHEDULES.includes(type)) throw fail(`type must be one of ${SCHEDULES.join(", ")}`, JSON.stringify(type));
  if (!(learningRate > 0 && learningRate < Infinity)) throw fail("learningRate must be above 0", learningRate);
  if (!(minimum >= 0 && minimum <= learningRate)) throw fail("minimum must lie from 0 to learningRate", minimum);
  if (!Number.isSafeInteger(warmup) || warmup < 0) throw fail("warmup must be a whole number of steps", warmup);
  if (type === "inverse_sqrt" && warmup < 1) throw fail("inverse_sqrt needs a warmup of at least 1 step", warmup);
}
