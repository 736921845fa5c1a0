import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { type Decoder, mapLeaves, type WeightTree } from "../models/family.ts";
import { denseStep } from "../nn/dense_step.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import type { Value } from "../ops/op.ts";
import { sgdStep } from "../ops/sgd.ts";
import { gradients } from "../program/autodiff.ts";
import { plan } from "../program/plan.ts";
import { ProgramRecorder } from "../program/record.ts";
import type { Plan } from "../program/replay.ts";

/** What one step trains on, and how. */
export interface TrainingStepOptions {
  readonly batch: number;
  readonly length: number;
  /** Of gradient descent; 0 (default) keeps no velocity. */
  readonly momentum?: number;
  /** Keep a block's intermediates only until the next block; backward computes them again. */
  readonly recompute?: boolean;
}

/**
 * A whole training step of a decoder as one Program: forward pass, cross-entropy, gradients and update. The
 * parameters are states in the layout of the checkpoint; a step allocates nothing.
 */
export class TrainingStep {
  readonly plan: Plan;
  readonly #options: TrainingStepOptions;
  readonly #owned: readonly Tensor[];

  private constructor(planned: Plan, options: TrainingStepOptions, owned: readonly Tensor[]) {
    this.plan = planned;
    this.#options = options;
    this.#owned = owned;
  }

  /** Plans the step for parameters that the caller owns, such as those of `initialise`. */
  static async create(
    device: Device,
    decoder: Decoder,
    parameters: WeightTree<Tensor>,
    options: TrainingStepOptions,
  ): Promise<TrainingStep> {
    const owned: Tensor[] = [];
    const own = (tensor: Tensor): Tensor => {
      owned.push(tensor);
      return tensor;
    };
    try {
      const rec = new ProgramRecorder("training step");
      const constants: Record<string, Value> = {};
      for (const [name, { shape, data }] of Object.entries(decoder.constants(options.length))) {
        constants[name] = rec.weight(own(Tensor.from(device, name, shape, "f32", data)));
      }
      recordStep(rec, decoder, parameters, constants, options, (shape) =>
        rec.state(own(Tensor.create(device, "velocity", shape, "f32"))),
      );
      const step = new TrainingStep(await plan(device, rec), options, owned);
      step.#writeRows();
      return step;
    } catch (error) {
      for (const t of owned) t.dispose();
      throw error;
    }
  }

  /** Trains on `batch × length` tokens and their targets (−100: not counted); resolves with the loss before the update. */
  async run(
    tokens: Uint32Array<ArrayBuffer>,
    targets: Int32Array<ArrayBuffer>,
    options: { readonly learningRate: number; readonly signal?: AbortSignal },
  ): Promise<number> {
    const { batch, length } = this.#options;
    if (tokens.length !== batch * length || targets.length !== batch * length) {
      throw new HeedError(
        "SHAPE",
        `training step: tokens and targets must have B·T = ${batch * length} entries; got ${tokens.length} and ${targets.length}.`,
      );
    }
    this.plan.write("tokens", tokens);
    this.plan.write("targets", targets);
    this.plan.write("learning_rate", new Float32Array([options.learningRate]));
    await this.plan.run({}, { signal: options.signal });
    const [loss = Number.NaN] = new Float32Array(await this.plan.readOutput("loss"));
    return loss;
  }

  dispose(): void {
    this.plan.dispose();
    for (const t of this.#owned) t.dispose();
  }

  #writeRows(): void {
    const { batch, length } = this.#options;
    const rows = new Uint32Array(batch * length * 2);
    for (let n = 0; n < batch * length; n++) rows.set([Math.floor(n / length), n % length], n * 2);
    this.plan.write("row_table", rows);
  }
}

function recordStep(
  rec: ProgramRecorder,
  decoder: Decoder,
  parameters: WeightTree<Tensor>,
  constants: Readonly<Record<string, Value>>,
  { batch, length, momentum = 0, recompute = false }: TrainingStepOptions,
  velocityOf: (shape: readonly number[]) => Value,
): void {
  const tokens = rec.input("tokens", [batch * length], "u32");
  const targets = rec.input("targets", [batch * length], "i32");
  const rowTable = rec.input("row_table", [batch * length, 2], "u32");
  const learningRate = rec.input("learning_rate", [1], "f32");
  const trained: Value[] = [];
  const tree = mapLeaves(
    parameters,
    (t): t is Tensor => t instanceof Tensor,
    (t) => {
      const value = rec.state(t);
      trained.push(value);
      return value;
    },
  );
  const hidden = decoder.hidden(
    rec,
    tree,
    denseStep({ tokens, rowTable, batch, length, constants, recompute, training: true }),
  );
  const loss = rec.output("loss", crossEntropy(rec, decoder.logits(rec, tree, hidden), targets));
  const grads = gradients(rec, loss, trained);
  trained.forEach((param, i) => {
    const velocity = momentum > 0 ? velocityOf(param.shape) : undefined;
    sgdStep(rec, { param, grad: grads[i] as Value, lr: learningRate, velocity }, { momentum });
  });
}
