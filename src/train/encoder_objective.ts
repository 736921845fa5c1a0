import type { Tensor } from "../gpu/tensor.ts";
import type { Encoder } from "../models/encoder_family.ts";
import type { WeightTree } from "../models/family.ts";
import { denseStep } from "../nn/dense_step.ts";
import type { Step } from "../nn/step.ts";
import { groupRows } from "../ops/group_rows.ts";
import type { Value } from "../ops/op.ts";
import {
  denseRows,
  MASKED_LOSS,
  NEXT_LOSS,
  stepParts,
  type TextObjectiveOptions,
  tokenLoss,
  valuesOf,
} from "./losses.ts";
import type { Objective, ObjectiveContext } from "./objective.ts";

/**
 * The head of an encoder: the class of a text, the label of each token, the words behind masks, or where an answer begins and ends.
 * Inputs: `tokens [B·T]` u32, `lengths [B]` u32, `segments [B·T]` u32 where the model knows segments, and `targets` i32: `[B]` for classes,
 * `[B, 2]` for an answer's first and last token (a choice among all T positions, as in arXiv 1810.04805 §4.2), else `[B·T]` (-100: not counted).
 */
export function encoderObjective(
  encoder: Encoder,
  weights: WeightTree<Tensor>,
  options: TextObjectiveOptions = {},
): Objective {
  return {
    ...fixedParts(encoder),
    record(context) {
      const { rec, shape } = context;
      const { batch, length } = shape;
      const tree = valuesOf(context, weights);
      const { hidden, step } = encoderPass(context, encoder, tree);
      const logits = encoder.logits(rec, tree, hidden, { batch, step });
      if (encoder.head?.kind === "span") {
        const targets = rec.input("targets", [batch, 2], "i32");
        return tokenLoss(context, groupRows(rec, logits, batch), targets, options); // [B, T, 2]
      }
      const targets = rec.input("targets", [encoder.head?.kind === "classes" ? batch : batch * length], "i32");
      return tokenLoss(context, logits, targets, options);
    },
  };
}

/** An encoder with both heads of BERT's pre-training. */
interface PretrainingHeads {
  /** With the head of masked words. */
  readonly words: Encoder;
  /** The same encoder with the head that tells whether the second sentence follows the first. */
  readonly next: Encoder;
}

/**
 * Masked words and the next sentence at once: one pass, two losses whose means are added up (arXiv 1810.04805, §3.1 and A.2). `weights` is
 * `{body, head}`, that of the next sentence in `head.next`. Inputs are those of {@link encoderObjective} for words, and `next_targets [B]` i32: 0 follows, 1 does not, -100 not counted.
 */
export function pretrainingObjective(
  { words, next }: PretrainingHeads,
  weights: WeightTree<Tensor>,
  options: TextObjectiveOptions = {},
): Objective {
  return {
    ...fixedParts(words),
    record(context) {
      const { rec, shape } = context;
      const { batch, length } = shape;
      const { body, head } = valuesOf(context, weights) as {
        readonly body: WeightTree<Value>;
        readonly head: { readonly next: WeightTree<Value> };
      };
      const { hidden, step } = encoderPass(context, words, { body });
      const inputs = { batch, step };
      const wordLogits = words.logits(rec, { body, head }, hidden, inputs); // [B·T, V]
      const nextLogits = rec.scope("next", () => next.logits(rec, { body, head: head.next }, hidden, inputs)); // [B, 2]
      const targets = rec.input("targets", [batch * length], "i32");
      const follows = rec.input("next_targets", [batch], "i32");
      return new Map([
        [MASKED_LOSS, tokenLoss(context, wordLogits, targets, options)],
        [NEXT_LOSS, rec.scope("next", () => tokenLoss(context, nextLogits, follows, options))],
      ]);
    },
  };
}

function fixedParts(encoder: Encoder): Pick<Objective, "constants" | "fixedInputs" | "limits"> {
  const { facts, head } = encoder;
  const targets = head?.kind === "words" ? facts.vocabSize : head?.labels.length;
  return {
    // An answer's targets are places in its text.
    limits: { tokens: facts.vocabSize, ...(targets ? { targets } : {}) },
    constants: ({ length }) => encoder.constants(length),
    fixedInputs: ({ batch, length }) => ({ row_table: denseRows(batch, length) }),
  };
}

/** Both ways over a padded batch: hidden rows `[B·T, C]`, and the step for what comes after. */
function encoderPass(
  context: ObjectiveContext,
  encoder: Encoder,
  tree: WeightTree<Value>,
): { readonly hidden: Value; readonly step: Step } {
  const { rec, shape } = context;
  const { batch, length } = shape;
  const rows = batch * length;
  const step = denseStep({
    ...stepParts(context),
    causal: false,
    keyLengths: rec.input("lengths", [batch], "u32"),
    tokens: rec.input("tokens", [rows], "u32"),
    rowTable: rec.input("row_table", [rows, 2], "u32"),
  });
  const segments = encoder.facts.segments > 0 ? { segments: rec.input("segments", [rows], "u32") } : {};
  return { hidden: encoder.hidden(rec, tree, { step, ...segments }), step };
}
