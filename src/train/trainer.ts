import { HeedError, throwIfAborted } from "../core/errors.ts";
import type { BatchSource } from "./batches.ts";
import { firstNotFinite } from "./diagnose.ts";
import type { LossScaleState } from "./mixed.ts";
import type { Batch } from "./objective.ts";
import { checkSchedule, learningRateAt, type Schedule } from "./schedule.ts";
import type { StepResult, TrainingStep } from "./training_step.ts";

/** What a trainer does, and for how long. */
export interface TrainerOptions {
  readonly step: TrainingStep;
  readonly data: BatchSource;
  /** Updates in all. */
  readonly steps: number;
  readonly schedule: Schedule;
  /** Batches whose gradients make one update. Default 1. */
  readonly accumulate?: number;
  /** Held-out batches, made anew for each evaluation. */
  readonly validation?: () => Iterable<Batch> | AsyncIterable<Batch>;
  /** Updates between evaluations; needs `validation`. Default: none but after the last. */
  readonly evaluateEvery?: number;
  /** Ends training after so many evaluations in a row without a lower loss. Default: never. */
  readonly patience?: number;
  readonly signal?: AbortSignal;
}

/** What one update came to. */
export interface TrainingProgress {
  /** Updates done. */
  readonly step: number;
  readonly steps: number;
  /** Mean over the batch's targets, before the update. */
  readonly loss: number;
  readonly learningRate: number;
  readonly gradientNorm: number;
  /** Set in mixed precision: the scale of the loss in this update. */
  readonly lossScale?: number;
  /** Set where gradients overflowed in f16: so many batches were passed over, the scale halved each time. */
  readonly overflows?: number;
  readonly tokens: number;
  readonly elapsedMs: number;
  /** Set where the model was evaluated after this update: mean over all held-out targets. */
  readonly validationLoss?: number;
  /** Set with `validationLoss`: it is the lowest so far. */
  readonly best?: boolean;
  /** Set in the last progress. */
  readonly finished?: "steps" | "patience";
}

/** Everything that a trainer goes on from, apart from the parameters and moments: plain JSON. */
export interface TrainerState {
  readonly stepsDone: number;
  readonly data: unknown;
  readonly bestLoss: number | null;
  /** Evaluations since the best one. */
  readonly stale: number;
  /** In mixed precision. */
  readonly lossScale?: LossScaleState;
}

/**
 * Trains as it is iterated: each turn of the loop is one update. Between turns the parameters may be read, saved, or generated with.
 * Leaving the loop pauses; iterating again goes on.
 *
 * @example
 * for await (const { step, loss } of trainer) if (step % 100 === 0) console.log(step, loss);
 */
export class Trainer implements AsyncIterable<TrainingProgress> {
  readonly options: TrainerOptions;
  #bestLoss = Number.POSITIVE_INFINITY;
  #stale = 0;

  /** Throws `USAGE` for options that contradict each other. */
  constructor(options: TrainerOptions) {
    checkSchedule(options.schedule);
    const { steps, accumulate = 1, evaluateEvery, patience, validation } = options;
    for (const [name, value] of Object.entries({ steps, accumulate, evaluateEvery, patience })) {
      if (value === undefined || (Number.isSafeInteger(value) && value >= 1)) continue;
      throw new HeedError("USAGE", `trainer: ${name} must be a whole number of at least 1; got ${value}.`);
    }
    if (!validation && (evaluateEvery !== undefined || patience !== undefined)) {
      throw new HeedError("USAGE", "trainer: evaluateEvery and patience need validation; got none.");
    }
    if (patience !== undefined && evaluateEvery === undefined) {
      throw new HeedError("USAGE", "trainer: patience counts evaluations, so it needs evaluateEvery; got none.");
    }
    this.options = options;
  }

  get stepsDone(): number {
    return this.options.step.stepsDone;
  }

  /**
   * One update at a time until all are done or patience is at its end. Throws `ABORTED` when the signal fires, and `DIVERGED` where the
   * loss or the gradients are not finite: the parameters are then those before that update.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<TrainingProgress, void, undefined> {
    const { steps, signal } = this.options;
    while (this.stepsDone < steps && !this.#isExhausted()) {
      throwIfAborted(signal, "train");
      yield await this.#update();
    }
  }

  /** Mean loss over the held-out targets. Throws `USAGE` without `validation`. */
  async evaluate(batches = this.options.validation?.()): Promise<number> {
    if (!batches) throw new HeedError("USAGE", "trainer: an evaluation needs validation; got none.");
    let [sum, count] = [0, 0];
    for await (const batch of batches) {
      if (batch.count === 0) continue;
      sum += await this.options.step.evaluate(batch, { signal: this.options.signal });
      count += batch.count;
    }
    return sum / count;
  }

  /** What to keep beside parameters and moments, to go on later. */
  state(): TrainerState {
    const bestLoss = Number.isFinite(this.#bestLoss) ? this.#bestLoss : null;
    const { data, step } = this.options;
    const lossScale = step.lossScale ? { lossScale: step.lossScale.state() } : {};
    return { stepsDone: this.stepsDone, data: data.state(), bestLoss, stale: this.#stale, ...lossScale };
  }

  /** Goes on from a {@link state}; parameters and moments are restored apart. */
  restore(state: TrainerState): void {
    this.options.data.restore(state.data);
    this.options.step.stepsDone = state.stepsDone;
    if (state.lossScale) this.options.step.lossScale?.restore(state.lossScale);
    this.#bestLoss = state.bestLoss ?? Number.POSITIVE_INFINITY;
    this.#stale = state.stale;
  }

  async #update(): Promise<TrainingProgress> {
    const { step, steps, schedule } = this.options;
    const started = performance.now();
    const learningRate = learningRateAt(schedule, step.stepsDone, steps);
    let overflows = 0;
    let attempt = await this.#attempt(learningRate);
    for (; attempt.result.overflow; overflows++) attempt = await this.#attempt(learningRate);
    const { loss, gradientNorm, lossScale } = attempt.result;
    const scaled = lossScale === undefined ? {} : { lossScale, ...(overflows > 0 ? { overflows } : {}) };
    const tokens = attempt.batches.reduce((sum, batch) => sum + batch.tokens, 0);
    const elapsedMs = performance.now() - started;
    const evaluated = await this.#evaluateIfDue();
    const end = this.#isExhausted() ? "patience" : step.stepsDone >= steps ? "steps" : undefined;
    const finished: Pick<TrainingProgress, "finished"> = end ? { finished: end } : {};
    const done = { step: step.stepsDone, steps, loss, gradientNorm, ...scaled, learningRate, tokens, elapsedMs };
    return { ...done, ...evaluated, ...finished };
  }

  /** An update that is done, or passed over because gradients overflowed. */
  async #attempt(learningRate: number): Promise<{ readonly batches: Batch[]; readonly result: StepResult }> {
    const { step, data, accumulate = 1, signal } = this.options;
    const position = data.state();
    const batches: Batch[] = [];
    for (let part = 0; part < accumulate; part++) batches.push(await data.next());
    const result = await step.run(batches, { learningRate, signal }).catch((error: unknown) => {
      // An update that did not happen reads its batches again.
      data.restore(position);
      throw error;
    });
    const isDone = Number.isFinite(result.loss) && Number.isFinite(result.gradientNorm);
    if (!isDone && !result.overflow) {
      data.restore(position);
      throw await diverged(step, batches, result, learningRate);
    }
    return { batches, result };
  }

  async #evaluateIfDue(): Promise<Pick<TrainingProgress, "validationLoss" | "best">> {
    const { steps, evaluateEvery, validation } = this.options;
    const due = this.stepsDone === steps || (evaluateEvery !== undefined && this.stepsDone % evaluateEvery === 0);
    if (!validation || !due) return {};
    const validationLoss = await this.evaluate();
    const best = validationLoss < this.#bestLoss;
    this.#stale = best ? 0 : this.#stale + 1;
    if (best) this.#bestLoss = validationLoss;
    return { validationLoss, best };
  }

  #isExhausted(): boolean {
    const { patience } = this.options;
    return patience !== undefined && this.#stale >= patience;
  }
}

async function diverged(
  step: TrainingStep,
  batches: readonly Batch[],
  { loss, gradientNorm }: StepResult,
  learningRate: number,
): Promise<HeedError> {
  let where: string | undefined;
  for (const batch of batches) where ??= await firstNotFinite(step, batch);
  const found = where ? `it began in ${where}` : "the forward pass is finite, so it began in the gradients";
  return new HeedError(
    "DIVERGED",
    `train: loss and gradients must be finite; got loss ${loss}, gradient norm ${gradientNorm} in step ${step.stepsDone + 1} at learning rate ${learningRate.toPrecision(3)}; ${found}. Nothing was changed or saved since the step before. Lower the learning rate, lengthen the warm-up, clip more, ${step.lossScale ? "train with precision f32, " : ""}or look at this batch's data.`,
  );
}
