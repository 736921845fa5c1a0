import * as v from "valibot";
import { KEEPS } from "./best_weights.ts";
import { PRECISIONS } from "./mixed.ts";

/** A whole number of at least `min`. */
export const whole = (min: number) => v.pipe(v.number(), v.safeInteger(), v.minValue(min));

/** From 0, and below 1. */
export const share = v.pipe(v.number(), v.minValue(0), v.ltValue(1));

const atLeastZero = v.pipe(v.number(), v.minValue(0));
const aboveZero = v.pipe(v.number(), v.gtValue(0));

const everyUpdate = { weightDecay: v.optional(atLeastZero), clip: v.optional(atLeastZero) };
/** At its highest. */
export const LEARNING_RATE = aboveZero;

const rate = { learningRate: LEARNING_RATE, warmup: v.optional(whole(0)) };

/** How a model is trained, whether from zero or from a checkpoint: fields of a recipe, and options of `openFinetuning`. */
export const SETTINGS = {
  batch: whole(1),
  length: whole(1),
  accumulate: v.optional(whole(1)),
  steps: whole(1),
  optimizer: v.variant("type", [
    v.strictObject({
      type: v.picklist(["adam", "adamw"]),
      ...{ beta1: v.optional(share), beta2: v.optional(share), eps: v.optional(aboveZero), ...everyUpdate },
    }),
    v.strictObject({ type: v.literal("sgd"), momentum: v.optional(share), ...everyUpdate }),
  ]),
  schedule: v.variant("type", [
    v.strictObject({ type: v.picklist(["linear", "cosine"]), ...rate, minimum: v.optional(atLeastZero) }),
    v.strictObject({ type: v.picklist(["constant", "inverse_sqrt"]), ...rate }),
  ]),
  labelSmoothing: v.optional(share),
  /** Share of the tokens that are hidden, of tasks that hide some: default 0.15, of masked-translation 0.5. */
  maskRate: v.optional(v.pipe(aboveZero, v.maxValue(1))),
  dropout: v.optional(v.strictObject({ hidden: v.optional(share), attention: v.optional(share) })),
  recompute: v.optional(v.boolean()),
  /** `mixed`: products of f16 under a scaled loss. Default f32. */
  precision: v.optional(v.picklist(PRECISIONS)),
  seed: v.optional(whole(0)),
};

/** When what is held out is evaluated, and what for. */
export const EVALUATIONS = {
  every: v.optional(whole(1)),
  patience: v.optional(whole(1)),
  /** The weights of the result: those of the lowest held-out loss, or of the last update. Default `best` with `patience`, else `last`. */
  keep: v.optional(v.picklist(KEEPS)),
};
