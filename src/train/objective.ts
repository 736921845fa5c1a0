import { HeedError } from "../core/errors.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Constants } from "../models/family.ts";
import type { DropoutRates } from "../nn/dense_step.ts";
import type { Value } from "../ops/op.ts";
import type { ProgramRecorder } from "../program/record.ts";

/** The sizes of a padded batch; batches of one shape share a plan. */
export interface BatchShape {
  /** Sequences. */
  readonly batch: number;
  /** Tokens of each, padding included. */
  readonly length: number;
  /** Tokens of each source, padding included; of encoder–decoders. */
  readonly sourceLength?: number;
}

/** What one pass trains on, or is measured on. */
export interface Batch {
  readonly shape: BatchShape;
  /** What the objective's inputs are filled with, by their names. */
  readonly inputs: Readonly<Record<string, ArrayBufferView<ArrayBuffer>>>;
  /** What the sum of the losses is divided by: the targets that count, or their weights. */
  readonly count: number;
  /** Of an objective of several losses: what the sum of each is divided by, by their names. */
  readonly counts?: Readonly<Record<string, number>>;
  /** Tokens that the model reads, padding left out; for the speed. */
  readonly tokens: number;
}

/** Sums of losses `[1]` by their names. */
export type Losses = ReadonlyMap<string, Value>;

/** What an objective records its forward pass with. */
export interface ObjectiveContext {
  readonly rec: ProgramRecorder;
  readonly shape: BatchShape;
  /** The value of a tensor of the model: a state if it is trained, else a weight. */
  readonly value: (tensor: Tensor) => Value;
  readonly constants: Readonly<Record<string, Value>>;
  /** A gradient will be taken. */
  readonly training: boolean;
  /** Absent where nothing is dropped, as in evaluation. */
  readonly dropout?: DropoutRates;
  /** Blocks are computed again in backward. */
  readonly recompute: boolean;
}

/** The name of a loss that is the only one. */
export const ONLY_LOSS = "loss";

/** What is trained for: a forward pass that ends in a sum of losses, or in several whose means are added up. */
export interface Objective {
  /**
   * Records inputs (`context.rec.input`), the forward pass and the losses; returns their sum `[1]`, or one sum for each kind of target by its name,
   * as `counts` of a batch has them.
   */
  record(context: ObjectiveContext): Value | Losses;
  /**
   * What entries of an input must be below, by its name: tokens of the vocabulary, or classes. The losses would pass over a target beyond, and a
   * model without any other would seem perfect.
   */
  readonly limits?: Readonly<Record<string, number>>;
  /** Host-made constants that the forward pass asks for. */
  constants?(shape: BatchShape): Constants;
  /** Inputs that are the same for every batch of a shape, by their names. */
  fixedInputs?(shape: BatchShape): Readonly<Record<string, ArrayBufferView<ArrayBuffer>>>;
}

/** Throws `USAGE` for a batch with an entry that its objective knows nothing of. */
export function checkLimits({ inputs }: Pick<Batch, "inputs">, limits: Objective["limits"] = {}): void {
  for (const [name, limit] of Object.entries(limits)) {
    const beyond = (inputs[name] as Int32Array | Uint32Array | undefined)?.find((entry) => entry >= limit);
    if (beyond === undefined) continue;
    throw new HeedError(
      "USAGE",
      `training step: ${name} must be below ${limit}, all that the model knows; got ${beyond}. Use the tokenizer and the labels that the model is for, or a model with a larger vocabulary.`,
    );
  }
}
