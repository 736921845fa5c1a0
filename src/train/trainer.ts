import { HeedError, isHeedError, throwIfAborted } from "../core/errors.ts";
import type { Source } from "../core/source.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { BatchSource } from "./batches.ts";
import { type BestEvaluation, BestWeights, type Keep } from "./best_weights.ts";
import { firstNotFinite } from "./diagnose.ts";
import type { LossScaleState } from "./mixed.ts";
import type { Batch } from "./objective.ts";
import { checkSchedule, learningRateAt, type Schedule } from "./schedule.ts";
import type { MeanLoss, StepResult, TrainingStep } from "./training_step.ts";

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
  /**
   * Which weights it ends with: those of the last update, or the best by the held-out loss, of which it then holds a copy in host memory. Needs
   * `evaluateEvery`. Default: `best` with `patience`, else `last`.
   */
  readonly keep?: Keep;
  readonly signal?: AbortSignal;
}

/** What one update came to. */
export interface TrainingProgress {
  /** Updates done. */
  readonly step: number;
  readonly steps: number;
  /** Mean over the batch's targets, before the update. */
  readonly loss: number;
  /** Set where several losses are added up: the mean of each. */
  readonly losses?: Readonly<Record<string, number>>;
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
  /** Set with `validationLoss` where several are added up. */
  readonly validationLosses?: Readonly<Record<string, number>>;
  /** Set with `validationLoss`: it is the lowest so far. */
  readonly best?: boolean;
  /** Set with `validationLoss`: the update with the lowest so far, and that loss. */
  readonly bestStep?: number;
  readonly bestLoss?: number;
  /** Set in the last progress. */
  readonly finished?: "steps" | "patience";
  /** Set in the last progress: the update whose weights are in place from now on. */
  readonly keptStep?: number;
}

/** What an evaluation adds to {@link TrainingProgress}. */
type Evaluated = Pick<TrainingProgress, "validationLoss" | "validationLosses" | "best" | "bestStep" | "bestLoss">;

/** Everything that a trainer goes on from, apart from the parameters and moments: plain JSON. */
export interface TrainerState {
  readonly stepsDone: number;
  readonly data: unknown;
  readonly best: BestEvaluation | null;
  /** Evaluations since the best one. */
  readonly stale: number;
  /** In mixed precision. */
  readonly lossScale?: LossScaleState;
  /** An update that is done and whose evaluation is not, because it was stopped: what it came to so far. */
  readonly pending?: TrainingProgress;
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
  readonly #weights: BestWeights | undefined;
  #best: BestEvaluation | undefined;
  #stale = 0;
  #pending: TrainingProgress | undefined;

  /** Throws `USAGE` for options that contradict each other. */
  constructor(options: TrainerOptions) {
    checkSchedule(options.schedule);
    const { steps, accumulate = 1, evaluateEvery, patience, validation, step } = options;
    const keep = options.keep ?? (patience === undefined ? "last" : "best");
    for (const [name, value] of Object.entries({ steps, accumulate, evaluateEvery, patience })) {
      if (value === undefined || (Number.isSafeInteger(value) && value >= 1)) continue;
      throw new HeedError("USAGE", `trainer: ${name} must be a whole number of at least 1; got ${value}.`);
    }
    if (!validation && (evaluateEvery !== undefined || patience !== undefined || keep === "best")) {
      throw new HeedError(
        "USAGE",
        'trainer: evaluateEvery, patience and keep "best" need validation; got none. Hold something out, or leave them out.',
      );
    }
    if (patience !== undefined && evaluateEvery === undefined) {
      throw new HeedError("USAGE", "trainer: patience counts evaluations, so it needs evaluateEvery; got none.");
    }
    if (keep === "best" && evaluateEvery === undefined) {
      throw new HeedError(
        "USAGE",
        'trainer: keep "best" chooses among evaluations, so it needs evaluateEvery; got none.',
      );
    }
    this.options = options;
    this.#weights = keep === "best" ? new BestWeights(step.optimizer.parameters) : undefined;
  }

  get stepsDone(): number {
    return this.options.step.stepsDone;
  }

  /** Updates whose progress was given out: all but one that still waits for its evaluation. */
  get stepsTold(): number {
    return this.stepsDone - (this.#pending ? 1 : 0);
  }

  /** The evaluation with the lowest loss so far. */
  get best(): BestEvaluation | undefined {
    return this.#best;
  }

  /** The update whose weights are in place: the last, or, once it has ended, the best where that is kept. */
  get keptStep(): number {
    return this.#weights?.inUse && this.#best ? this.#best.step : this.stepsDone;
  }

  /**
   * One update at a time until all are done or patience is at its end. Throws `ABORTED` when the signal fires, and `DIVERGED` where the
   * loss or the gradients are not finite: the parameters are then those before that update. With the last progress the best weights come into
   * place, where they are kept.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<TrainingProgress, void, undefined> {
    const { steps, signal } = this.options;
    while (this.#pending || (this.stepsDone < steps && !this.#isExhausted())) {
      throwIfAborted(signal, "train");
      yield await this.#update();
    }
    // A checkpoint of a training that had ended holds the last weights.
    await this.#weights?.use();
  }

  /** Mean loss over the held-out targets. Throws `USAGE` without `validation`, and where no target counts. */
  async evaluate(batches = this.options.validation?.()): Promise<number> {
    return (await this.#evaluate(batches)).loss;
  }

  #evaluate(batches = this.options.validation?.()): Promise<MeanLoss> {
    if (!batches) throw new HeedError("USAGE", "trainer: an evaluation needs validation; got none.");
    return this.options.step.evaluate(batches, { signal: this.options.signal });
  }

  /** A parameter's bytes as the last update left them, even where the best are in place: what training goes on from. */
  readonly readLast = (tensor: Tensor): Promise<ArrayBuffer> => this.#weights?.readLast(tensor) ?? tensor.read();

  /** The best weights as a file of a checkpoint, where they are kept. */
  async encodeBest(): Promise<[name: string, content: readonly Uint8Array[]][]> {
    return (this.#best && (await this.#weights?.encode(this.#best))) ?? [];
  }

  /** Reads what {@link encodeBest} gave, after {@link restore}. Throws `USAGE` and `BAD_FILE` where it is not there or of another evaluation. */
  async restoreBest(from: Source): Promise<void> {
    if (this.#best) await this.#weights?.restore(from, this.#best);
  }

  /** What to keep beside parameters and moments, to go on later. */
  state(): TrainerState {
    const best = this.#best ?? null;
    const { data, step } = this.options;
    const lossScale = step.lossScale ? { lossScale: step.lossScale.state() } : {};
    const pending = this.#pending ? { pending: this.#pending } : {};
    return { stepsDone: this.stepsDone, data: data.state(), best, stale: this.#stale, ...lossScale, ...pending };
  }

  /** Goes on from a {@link state}; parameters and moments are restored apart. */
  restore(state: TrainerState): void {
    this.options.data.restore(state.data);
    this.options.step.stepsDone = state.stepsDone;
    if (state.lossScale) this.options.step.lossScale?.restore(state.lossScale);
    this.#best = state.best ?? undefined;
    this.#stale = state.stale;
    this.#pending = state.pending;
  }

  async #update(): Promise<TrainingProgress> {
    // Kept until it is given out: where its evaluation is stopped, going on begins with that.
    this.#pending ??= await this.#step();
    const evaluated = await this.#evaluateIfDue();
    const end = this.#isExhausted() ? "patience" : this.stepsDone >= this.options.steps ? "steps" : undefined;
    const progress = { ...this.#pending, ...evaluated };
    this.#pending = undefined;
    if (!end) return progress;
    await this.#weights?.use();
    return { ...progress, finished: end, keptStep: this.keptStep };
  }

  async #step(): Promise<TrainingProgress> {
    const { step, steps, schedule } = this.options;
    const started = performance.now();
    const learningRate = learningRateAt(schedule, step.stepsDone, steps);
    let overflows = 0;
    let attempt = await this.#attempt(learningRate);
    for (; attempt.result.overflow; overflows++) attempt = await this.#attempt(learningRate);
    const { loss, losses, gradientNorm, lossScale } = attempt.result;
    const scaled = lossScale === undefined ? {} : { lossScale, ...(overflows > 0 ? { overflows } : {}) };
    const tokens = attempt.batches.reduce((sum, batch) => sum + batch.tokens, 0);
    const elapsedMs = performance.now() - started;
    const mean: MeanLoss = losses ? { loss, losses } : { loss };
    return { step: step.stepsDone, steps, ...mean, gradientNorm, ...scaled, learningRate, tokens, elapsedMs };
  }

  /** An update that is done, or passed over because gradients overflowed. */
  async #attempt(learningRate: number): Promise<{ readonly batches: Batch[]; readonly result: StepResult }> {
    const { step, data, accumulate = 1, signal } = this.options;
    const position = data.state();
    try {
      const batches: Batch[] = [];
      for (let part = 0; part < accumulate; part++) batches.push(await data.next());
      const result = await step.run(batches, { learningRate, signal });
      const isDone = Number.isFinite(result.loss) && Number.isFinite(result.gradientNorm);
      if (!isDone && !result.overflow) throw await diverged(step, batches, result, learningRate);
      return { batches, result };
    } catch (error) {
      // An update that did not happen reads its batches again.
      data.restore(position);
      throw error;
    }
  }

  async #evaluateIfDue(): Promise<Evaluated | undefined> {
    const { steps, evaluateEvery, validation } = this.options;
    const due = this.stepsDone === steps || (evaluateEvery !== undefined && this.stepsDone % evaluateEvery === 0);
    if (!validation || !due) return undefined;
    const { loss: validationLoss, losses: validationLosses } = await this.#evaluate();
    const best = validationLoss < (this.#best?.loss ?? Number.POSITIVE_INFINITY);
    if (best) {
      await this.#weights?.take();
      this.#best = { step: this.stepsDone, loss: validationLoss };
    }
    this.#stale = best ? 0 : this.#stale + 1;
    const lowest = this.#best && { bestStep: this.#best.step, bestLoss: this.#best.loss };
    return { validationLoss, ...(validationLosses ? { validationLosses } : {}), best, ...lowest };
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
  const began = await firstNotFinite(step, batches).catch((error: unknown) => {
    // Every value of a pass is kept to look through them, which may be more than there is room for.
    if (isHeedError(error, "OUT_OF_MEMORY") || isHeedError(error, "LIMIT")) return undefined;
    throw error;
  });
  const found = began
    ? {
        parameter: `it began in the parameter ${began.name}`,
        value: `it began in ${began.name}`,
        gradient: `the forward pass is finite, and it began in the gradient of ${began.name}`,
        norm: `every gradient is finite but too large to be squared, that of ${began.name} above all`,
      }[began.kind]
    : "there was too little memory to find where it began";
  const precision = step.lossScale ? "train with precision f32, " : "";
  const mend =
    began?.kind === "parameter"
      ? "Begin with weights that are finite: an older checkpoint, or the model as it was published."
      : `Lower the learning rate, lengthen the warm-up, clip more, ${precision}or look at this batch's data.`;
  return new HeedError(
    "DIVERGED",
    `train: loss and gradients must be finite; got loss ${loss}, gradient norm ${gradientNorm} in step ${step.stepsDone + 1} at learning rate ${learningRate.toPrecision(3)}; ${found}. Nothing was changed or saved since the step before. ${mend}`,
  );
}
