import type { Tensor } from "../gpu/tensor.ts";
import type { Encoder } from "../models/encoder_family.ts";
import type { WeightTree } from "../models/family.ts";
import { denseStep } from "../nn/dense_step.ts";
import { groupRows } from "../ops/group_rows.ts";
import { denseRows, stepParts, type TextObjectiveOptions, tokenLoss, valuesOf } from "./losses.ts";
import type { Objective } from "./objective.ts";

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
  const hasSegments = encoder.facts.segments > 0;
  return {
    constants: ({ length }) => encoder.constants(length),
    fixedInputs: ({ batch, length }) => ({ row_table: denseRows(batch, length) }),
    record(context) {
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
      const tree = valuesOf(context, weights);
      const segments = hasSegments ? { segments: rec.input("segments", [rows], "u32") } : {};
      const hidden = encoder.hidden(rec, tree, { step, ...segments }); // [B·T, C]
      const logits = encoder.logits(rec, tree, hidden, { batch, step });
      if (encoder.head?.kind === "span") {
        const targets = rec.input("targets", [batch, 2], "i32");
        return tokenLoss(context, groupRows(rec, logits, batch), targets, options); // [B, T, 2]
      }
      const targets = rec.input("targets", [encoder.head?.kind === "classes" ? batch : rows], "i32");
      return tokenLoss(context, logits, targets, options);
    },
  };
}
