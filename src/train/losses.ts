import type { Tensor } from "../gpu/tensor.ts";
import { type Decoder, type EncoderDecoder, mapLeaves, type WeightTree } from "../models/family.ts";
import { denseStep } from "../nn/dense_step.ts";
import { crossEntropy } from "../ops/cross_entropy.ts";
import type { Value } from "../ops/op.ts";
import type { Objective, ObjectiveContext } from "./objective.ts";
import { isTensor } from "./parameters.ts";

/** Target of a row that does not count: padding, or a prompt whose completion alone is trained on. */
export const IGNORED_TARGET = -100;

/** Names of the losses of masked words and the next sentence, where both are trained at once. */
export const MASKED_LOSS = "masked_lm_loss";
export const NEXT_LOSS = "next_sentence_loss";

/** What the objectives of text models have in common. */
export interface TextObjectiveOptions {
  /** ε: where a gradient is taken, the target distribution is `(1 − ε) · onehot + ε / V`; a held-out loss is that of the targets alone. Default 0. */
  readonly labelSmoothing?: number;
}

/**
 * The next token of a causal decoder. Inputs: `tokens [B·T]` u32 and `targets [B·T]` i32 ({@link IGNORED_TARGET}: not counted), row
 * b·T + t; padding stands at the end of a sequence, where no counted row sees it. With `prefix`, an input `prefix_lengths [B]` u32 says
 * how many first tokens of each sequence see each other both ways.
 */
export function languageModelObjective(
  decoder: Decoder,
  weights: WeightTree<Tensor>,
  options: TextObjectiveOptions & { readonly prefix?: boolean } = {},
): Objective {
  const { vocabSize } = decoder.facts;
  return {
    limits: { tokens: vocabSize, targets: vocabSize },
    constants: ({ length }) => decoder.constants(length),
    fixedInputs: ({ batch, length }) => ({ row_table: denseRows(batch, length) }),
    record(context) {
      const { rec, shape } = context;
      const rows = shape.batch * shape.length;
      const prefix = options.prefix ? { prefix: rec.input("prefix_lengths", [shape.batch], "u32") } : {};
      const step = denseStep({
        ...stepParts(context),
        tokens: rec.input("tokens", [rows], "u32"),
        rowTable: rec.input("row_table", [rows, 2], "u32"),
        ...prefix,
      });
      const tree = valuesOf(context, weights);
      const logits = decoder.logits(rec, tree, decoder.hidden(rec, tree, step)); // [B·T, V]
      return tokenLoss(context, logits, rec.input("targets", [rows], "i32"), options);
    },
  };
}

/**
 * The next token of an encoder–decoder, both sides padded. Inputs: `source_tokens [B·S]` u32, `source_lengths [B]` u32, `tokens [B·T]` u32 (from
 * the start token on), `targets [B·T]` i32 ({@link IGNORED_TARGET}: not counted).
 */
export function translationObjective(
  model: EncoderDecoder,
  weights: WeightTree<Tensor>,
  options: TextObjectiveOptions = {},
): Objective {
  const { vocabSize, sourceVocabSize = vocabSize } = model.facts;
  return {
    limits: { source_tokens: sourceVocabSize, tokens: vocabSize, targets: vocabSize },
    constants: ({ length, sourceLength = length }) => model.constants(Math.max(length, sourceLength)),
    fixedInputs: ({ batch, length, sourceLength = length }) => ({
      row_table: denseRows(batch, length),
      source_row_table: denseRows(batch, sourceLength),
    }),
    record(context) {
      const { rec, shape } = context;
      const { batch, length, sourceLength = length } = shape;
      const [sourceRows, rows] = [batch * sourceLength, batch * length];
      const keyLengths = rec.input("source_lengths", [batch], "u32");
      const tree = valuesOf(context, weights);
      const parts = stepParts(context);
      const encoding = denseStep({
        ...parts,
        length: sourceLength,
        causal: false,
        keyLengths,
        tokens: rec.input("source_tokens", [sourceRows], "u32"),
        rowTable: rec.input("source_row_table", [sourceRows, 2], "u32"),
      });
      const encoded = rec.scope("encoder", () => model.encode(rec, tree, encoding)); // [B·S, C]
      const decoding = denseStep({
        ...parts,
        memory: { layers: model.memory(rec, tree, encoded), length: sourceLength, keyLengths },
        tokens: rec.input("tokens", [rows], "u32"),
        rowTable: rec.input("row_table", [rows, 2], "u32"),
      });
      const logits = model.logits(rec, tree, model.hidden(rec, tree, decoding)); // [B·T, V]
      return tokenLoss(context, logits, rec.input("targets", [rows], "i32"), options);
    },
  };
}

/** The sum over counted rows of the cross-entropy of logits `[N, V]` with targets `[N]` i32, `[1]`; every objective of classes ends in it. */
export function tokenLoss(
  { rec, training }: ObjectiveContext,
  logits: Value,
  targets: Value,
  { labelSmoothing = 0 }: TextObjectiveOptions = {},
): Value {
  const smoothing = training ? labelSmoothing : 0;
  const attrs = { reduction: "sum", ignoreIndex: IGNORED_TARGET, labelSmoothing: smoothing } as const;
  return rec.scope("loss", () => crossEntropy(rec, logits, targets, attrs));
}

/** What every dense step of an objective takes over from its context. */
export function stepParts({ shape, constants, training, recompute, dropout }: ObjectiveContext) {
  const { batch, length } = shape;
  return { batch, length, constants, training, recompute, ...(dropout ? { dropout } : {}) };
}

/** A tree of tensors as the values of an objective's record. */
export function valuesOf({ value }: ObjectiveContext, tree: WeightTree<Tensor>): WeightTree<Value> {
  return mapLeaves(tree, isTensor, value);
}

/** The row table of whole sequences: row b·T + t is (b, t). */
export function denseRows(batch: number, length: number): Uint32Array<ArrayBuffer> {
  const rows = new Uint32Array(batch * length * 2);
  for (let n = 0; n < batch * length; n++) rows.set([Math.floor(n / length), n % length], n * 2);
  return rows;
}

/** Targets that count. */
export function countTargets(targets: Int32Array): number {
  return targets.reduce((n, target) => n + (target === IGNORED_TARGET ? 0 : 1), 0);
}
