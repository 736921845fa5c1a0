import { HeedError, throwIfAborted } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { accumulate } from "../ops/accumulate.ts";
import type { Value } from "../ops/op.ts";
import { gradientsFrom } from "../program/autodiff.ts";
import type { PlanDescription } from "../program/describe.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import type { Plan } from "../program/replay.ts";
import { checkPrecision, LossScale, type LossScaleOptions, type Precision, recordMixed } from "./mixed.ts";
import {
  type Batch,
  type BatchShape,
  checkLimits,
  type Losses,
  type Objective,
  type ObjectiveContext,
  ONLY_LOSS,
} from "./objective.ts";
import { Optimizer, type OptimizerSpec } from "./optimizer.ts";
import type { Parameter } from "./parameters.ts";

/** What is trained, for what, and how. */
export interface TrainingStepOptions {
  readonly objective: Objective;
  /** What changes. Tensors of the model that are not among them are frozen: they cost no backward work and no moments. */
  readonly parameters: readonly Parameter[];
  readonly optimizer: OptimizerSpec;
  /** Share that is dropped where the papers drop (embeddings and sublayers' outputs), and of attention weights. Default 0. */
  readonly dropout?: { readonly hidden?: number; readonly attention?: number };
  /** Keep a block's intermediates only until the next block; backward computes them again. */
  readonly recompute?: boolean;
  /** Default `f32`; `mixed` needs a device with f16. */
  readonly precision?: Precision;
  /** Of `mixed`. */
  readonly lossScale?: LossScaleOptions;
  /** Of dropout's masks. Default 0. */
  readonly seed?: number;
}

/** What one step came to. */
export interface StepResult {
  /** Mean over all counted targets, before the update; of several losses the sum of their means. */
  readonly loss: number;
  /** Set for an objective of several losses: the mean of each. */
  readonly losses?: Readonly<Record<string, number>>;
  /** Global norm of the gradients before clipping. Not finite: nothing was changed. */
  readonly gradientNorm: number;
  /** Set in mixed precision: the scale of the loss that the gradients had. */
  readonly lossScale?: number;
  /** Set where the gradients overflowed under that scale: it was halved, and the next batch may fit. */
  readonly overflow?: boolean;
}

/** What a plan is for: a whole step, a part of an accumulated one, that one's update, or losses alone. */
type Purpose = "step" | "accumulate" | "update" | "evaluate";

/**
 * A training step: forward pass, losses, gradients, clipping by global norm and update are one Program per shape of batch, all on
 * the same parameters and moments. Replaying allocates nothing. An accumulated step adds up the gradients of several batches first.
 * The parameters belong to the caller; {@link dispose} frees the rest.
 */
export class TrainingStep {
  readonly device: Device;
  readonly optimizer: Optimizer;
  readonly #options: TrainingStepOptions;
  readonly #plans = new Map<string, Promise<Plan>>();
  readonly #owned: Tensor[] = [];
  #sums: readonly Tensor[] | undefined;
  /** Steps done; the optimiser corrects its moments' bias by it, and dropout draws its masks from it. */
  stepsDone = 0;
  /** Of the loss; undefined in f32. */
  readonly lossScale: LossScale | undefined;

  /** Throws `USAGE` without parameters, `UNSUPPORTED` for mixed precision on a device without f16. */
  constructor(device: Device, options: TrainingStepOptions) {
    if (options.parameters.length === 0) {
      throw new HeedError("USAGE", "training step: there must be something to train; got no parameters.");
    }
    const { precision = "f32", lossScale } = options;
    checkPrecision(device, precision);
    this.device = device;
    this.#options = options;
    this.lossScale = precision === "mixed" ? new LossScale(lossScale) : undefined;
    this.optimizer = new Optimizer(device, options.parameters, options.optimizer);
  }

  /**
   * One update from one batch, or from several whose gradients add up to those of one large batch. Throws `SHAPE` for inputs of
   * another length, `USAGE` for entries that the objective knows nothing of, `ABORTED` before anything is changed: an update that has begun is finished.
   */
  async run(
    batches: readonly Batch[],
    options: { readonly learningRate: number; readonly signal?: AbortSignal },
  ): Promise<StepResult> {
    const { learningRate, signal } = options;
    for (const batch of batches) checkLimits(batch, this.#options.objective.limits);
    const counts = addUp(batches.map(countsOf));
    for (const count of Object.values(counts)) {
      if (!(count > 0)) throw new HeedError("USAGE", `training step: at least one target must count; got ${count}.`);
    }
    const scale = this.lossScale?.scale;
    const update = {
      learning_rate: new Float32Array([learningRate]),
      steps_done: new Uint32Array([this.stepsDone]),
      ...(scale === undefined ? {} : { unscale: new Float32Array([1 / scale]) }),
    };
    const [only] = batches;
    const sums: Sums[] = [];
    let last: Plan | undefined;
    if (only && batches.length === 1) {
      last = await this.plan(only.shape);
      throwIfAborted(signal, "training step");
      sums.push(await this.#pass(last, only, { counts, part: 0, inputs: update }));
    } else {
      for (const [part, batch] of batches.entries()) {
        const inputs = { fresh: new Uint32Array([part === 0 ? 1 : 0]) };
        const planned = await this.#plan("accumulate", batch.shape);
        sums.push(await this.#pass(planned, batch, { counts, part, inputs, signal }));
      }
    }
    const mean = meanLoss(addUp(sums), counts);
    if (!last && Number.isFinite(mean.loss)) {
      last = await this.#plan("update", undefined);
      for (const [name, data] of Object.entries(update)) last.write(name, data);
      await last.run();
    }
    return this.#finish(mean, last ? await readScalar(last, "gradient_norm") : Number.NaN);
  }

  #finish(mean: MeanLoss, gradientNorm: number): StepResult {
    const { loss } = mean;
    const isDone = Number.isFinite(gradientNorm);
    if (isDone) this.stepsDone++;
    const { lossScale } = this;
    if (!lossScale) return { ...mean, gradientNorm };
    const { scale } = lossScale;
    if (isDone) lossScale.fits();
    // A loss that is not finite is the forward pass's fault, which no scale mends.
    const overflow = !isDone && Number.isFinite(loss) && lossScale.overflows();
    return { ...mean, gradientNorm, lossScale: scale, ...(overflow ? { overflow } : {}) };
  }

  /** Mean losses over batches, without dropout; changes nothing. Throws `USAGE` where no target counts. */
  async evaluate(
    batches: Iterable<Batch> | AsyncIterable<Batch>,
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<MeanLoss> {
    const [sums, counts]: [Sums[], Sums[]] = [[], []];
    for await (const batch of batches) {
      if (batch.count === 0) continue;
      checkLimits(batch, this.#options.objective.limits);
      const planned = await this.#plan("evaluate", batch.shape);
      writeInputs(planned, batch.inputs);
      await planned.run({}, options);
      counts.push(countsOf(batch));
      sums.push(await readSums(planned, batch));
    }
    if (counts.length === 0) {
      throw new HeedError("USAGE", "evaluation: at least one target must count; got none. Hold out more examples.");
    }
    return meanLoss(addUp(sums), addUp(counts));
  }

  /** The plan of a whole step for batches of a shape, made at the first call. */
  plan(shape: BatchShape): Promise<Plan> {
    return this.#plan("step", shape);
  }

  /** The plan of a step in numbers: bytes of parameters and moments (states), intermediates, dispatches. */
  async describe(shape: BatchShape): Promise<PlanDescription> {
    return (await this.plan(shape)).describe();
  }

  /** Frees plans, moments and constants, once what is being planned is there. */
  async dispose(): Promise<void> {
    const planned = await Promise.allSettled(this.#plans.values());
    for (const p of planned) if (p.status === "fulfilled") p.value.dispose();
    this.#plans.clear();
    for (const tensor of this.#owned) tensor.dispose();
    this.optimizer.dispose();
  }

  async #pass(
    planned: Plan,
    batch: Batch,
    pass: {
      readonly counts: Sums;
      readonly part: number;
      readonly inputs: Readonly<Record<string, ArrayBufferView<ArrayBuffer>>>;
      readonly signal?: AbortSignal | undefined;
    },
  ): Promise<Sums> {
    writeInputs(planned, pass.inputs);
    this.#writePass(planned, batch, pass);
    await planned.run({}, { signal: pass.signal });
    return readSums(planned, batch);
  }

  #writePass(planned: Plan, batch: Batch, { counts, part }: { readonly counts: Sums; readonly part: number }): void {
    const { seed = 0 } = this.#options;
    writeInputs(planned, batch.inputs);
    for (const [name, count] of Object.entries(counts))
      planned.write(`${name}_gradient`, new Float32Array([(this.lossScale?.scale ?? 1) / count]));
    if (!planned.record.inputs.has("rng")) return;
    // The third word counts steps; parts of one step differ in its upper bits.
    const draw = (this.stepsDone + part * 2 ** 24) >>> 0;
    planned.write("rng", new Uint32Array([seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, draw]));
  }

  /** Writes what a part of a step on `batches` reads into a plan of {@link recordGradients}. */
  writePart(planned: Plan, batches: readonly Batch[], part: number): void {
    const batch = batches[part] as Batch;
    this.writeFixed(planned, batch.shape);
    this.#writePass(planned, batch, { counts: addUp(batches.map(countsOf)), part });
  }

  #plan(purpose: Purpose, shape: BatchShape | undefined): Promise<Plan> {
    const key = `${purpose} ${shape ? [shape.batch, shape.length, shape.sourceLength ?? 0].join("×") : ""}`;
    let planned = this.#plans.get(key);
    if (!planned) {
      planned = this.#makePlan(purpose, shape, `training ${key.trim()}`);
      this.#plans.set(key, planned);
      // A failed plan may succeed later, when memory is free again.
      planned.catch(() => this.#plans.delete(key));
    }
    return planned;
  }

  async #makePlan(purpose: Purpose, shape: BatchShape | undefined, label: string): Promise<Plan> {
    const rec = new ProgramRecorder(label);
    if (!shape) {
      this.#recordUpdate(
        rec,
        this.#gradientSums().map((sum) => rec.state(sum)),
        [],
      );
      return plan(this.device, rec);
    }
    if (purpose === "evaluate") this.recordForward(rec, shape, false);
    else {
      const { grads, losses } = this.recordGradients(rec, shape);
      if (purpose === "step") this.#recordUpdate(rec, grads, losses);
      else {
        const fresh = rec.input("fresh", [1], "u32");
        this.#gradientSums().forEach((sum, i) => {
          accumulate(rec, { sum: rec.state(sum), addend: grads[i] as Value, fresh });
        });
      }
    }
    const planned = await plan(this.device, rec);
    this.writeFixed(planned, shape);
    return planned;
  }

  /** Records a pass with the gradients of all parameters, in their order; {@link writePart} writes its inputs. */
  recordGradients(
    rec: ProgramRecorder,
    shape: BatchShape,
  ): { readonly grads: readonly Value[]; readonly losses: readonly Value[] } {
    const { losses, trained } = this.recordForward(rec, shape, true);
    const seeds = [...losses].map(([name, loss]) => [loss, rec.input(`${name}_gradient`, [1], "f32")] as const);
    return { grads: gradientsFrom(rec, new Map(seeds), trained), losses: [...losses.values()] };
  }

  /** Records an objective's forward pass on this step's tensors, for plans made elsewhere; losses are outputs of their names. */
  recordForward(
    rec: ProgramRecorder,
    shape: BatchShape,
    training: boolean,
  ): { readonly losses: Losses; readonly trained: readonly Value[] } {
    const { objective, parameters, dropout = {}, recompute = false } = this.#options;
    const { hidden = 0, attention = 0 } = dropout;
    if (this.lossScale) recordMixed(rec);
    const states = new Set(parameters.map(({ tensor }) => tensor));
    const drops = training && (hidden > 0 || attention > 0);
    const context: ObjectiveContext = {
      rec,
      shape,
      value: (tensor) => (states.has(tensor) ? rec.state(tensor) : rec.weight(tensor)),
      constants: this.#constants(rec, shape),
      training,
      recompute: training && recompute,
      ...(drops ? { dropout: { hidden, attention, rng: rec.input("rng", [3], "u32") } } : {}),
    };
    const recorded = objective.record(context);
    const losses: Losses = "kind" in recorded ? new Map([[ONLY_LOSS, recorded]]) : recorded;
    for (const [name, loss] of losses) rec.output(name, loss);
    return { losses, trained: parameters.map(({ tensor }) => rec.state(tensor)) };
  }

  /** Writes what every batch of a shape has alike into a plan of {@link recordForward}. */
  writeFixed(planned: Plan, shape: BatchShape): void {
    writeInputs(planned, this.#options.objective.fixedInputs?.(shape) ?? {});
  }

  #recordUpdate(rec: ProgramRecorder, grads: readonly Value[], losses: readonly Value[]): void {
    const lr = rec.input("learning_rate", [1], "f32");
    const step = rec.input("steps_done", [1], "u32");
    const unscale = this.lossScale && rec.input("unscale", [1], "f32");
    rec.output("gradient_norm", this.optimizer.record(rec, grads, { lr, step, unscale, losses }));
  }

  /** Where an accumulated step adds up its gradients. */
  #gradientSums(): readonly Tensor[] {
    this.#sums ??= this.#options.parameters.map(({ name, tensor }) =>
      this.#own(Tensor.create(this.device, `${name}.gradient`, tensor.shape, "f32")),
    );
    return this.#sums;
  }

  #constants(rec: ProgramRecorder, shape: BatchShape): Record<string, Value> {
    const constants: Record<string, Value> = {};
    for (const [name, { shape: size, data }] of Object.entries(this.#options.objective.constants?.(shape) ?? {})) {
      constants[name] = rec.weight(this.#own(Tensor.from(this.device, name, size, "f32", data)));
    }
    return constants;
  }

  #own(tensor: Tensor): Tensor {
    this.#owned.push(tensor);
    return tensor;
  }
}

function writeInputs(planned: Plan, inputs: Readonly<Record<string, ArrayBufferView<ArrayBuffer>>>): void {
  for (const [name, data] of Object.entries(inputs)) {
    const value = planned.record.inputs.get(name);
    const need = value?.shape.reduce((a, b) => a * b, 1);
    const got = data.byteLength / 4;
    if (need !== got) {
      throw new HeedError(
        "SHAPE",
        `training step: ${name} must have ${need === undefined ? "a place in the objective's inputs" : `${need} entries`}; got ${got}.`,
      );
    }
    planned.write(name, data);
  }
}

/** A number for each loss. */
type Sums = Readonly<Record<string, number>>;

/** Losses as they are told. */
export type MeanLoss = Pick<StepResult, "loss" | "losses">;

function countsOf({ count, counts }: Batch): Sums {
  return counts ?? { [ONLY_LOSS]: count };
}

function addUp(all: readonly Sums[]): Sums {
  const total: Record<string, number> = {};
  for (const sums of all) for (const [name, value] of Object.entries(sums)) total[name] = (total[name] ?? 0) + value;
  return total;
}

function meanLoss(sums: Sums, counts: Sums): MeanLoss {
  const means = Object.entries(sums).map(([name, sum]) => [name, sum / (counts[name] ?? 0)] as const);
  const loss = means.reduce((total, [, mean]) => total + mean, 0);
  return means.length > 1 ? { loss, losses: Object.fromEntries(means) } : { loss };
}

async function readSums(planned: Plan, batch: Batch): Promise<Sums> {
  const sums: Record<string, number> = {};
  for (const name of Object.keys(countsOf(batch))) sums[name] = await readScalar(planned, name);
  return sums;
}

async function readScalar(planned: Plan, name: string): Promise<number> {
  return new Float32Array(await planned.readOutput(name))[0] ?? Number.NaN;
}
