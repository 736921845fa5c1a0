import biasBackwardCode from "../../shaders/attention_bias_backward.wgsl";
import sinksBackwardCode from "../../shaders/attention_sinks_backward.wgsl";
import hardCode from "../../shaders/lib/attention_select.wgsl";
import softCode from "../../shaders/lib/attention_select_none.wgsl";
import softmaxBackwardCode from "../../shaders/masked_softmax_backward.wgsl";
import softmaxCode from "../../shaders/masked_softmax.wgsl";
import { HeedError, invariant } from "../core/errors.ts";
import { ceilDiv, dim, formatTensor, numel, sameShape, type Shape, shapeError } from "../core/shape.ts";
import { add } from "./add.ts";
import { maskPart } from "./attention_parts.ts";
import { type AttentionMask, type AttentionScores, type AttentionWeights, checkOptions } from "./attention_spec.ts";
import { MASK_OPTIONS } from "./attention_spec.ts";
import { checkModifiers, linkModifiers, type MaskNumbers, type ScoreSizes, splitMask } from "./attention_table.ts";
import {
  type LowerContext,
  only,
  type OpDef,
  type OpNode,
  type Recorder,
  shader,
  spreadWorkgroups,
  type Value,
} from "./op.ts";
import { need, rowReduction } from "./rows.ts";

/** What {@link maskedSoftmax} takes: which keys are kept, what is added to the scores, and what becomes of the weights. */
export interface MaskedSoftmaxOptions
  extends AttentionMask,
    Pick<AttentionScores, "alibiSlopes" | "bias" | "mask">,
    Pick<AttentionWeights, "sinks" | "selection"> {}

/** What {@link maskedSoftmaxWithLse} returns. */
export interface MaskedSoftmaxResult {
  /** `[B, H, T, S]`: the weights; one-hot rows for hard selection. */
  readonly probs: Value;
  /** `[B, H, T]`: natural log of the sum of exponentials, the sink's included. */
  readonly lse: Value;
}

interface SoftmaxAttrs extends MaskNumbers {
  readonly selection: "soft" | "hard";
}

const SOFTMAX = shader("masked_softmax.wgsl", softmaxCode);
const SOFTMAX_BACKWARD = shader("masked_softmax_backward.wgsl", softmaxBackwardCode);
const SINKS_BACKWARD = shader("attention_sinks_backward.wgsl", sinksBackwardCode);
const BIAS_BACKWARD = shader("attention_bias_backward.wgsl", biasBackwardCode);
const HARD = shader("lib/attention_select.wgsl", hardCode);
const SOFT = shader("lib/attention_select_none.wgsl", softCode);

const OPTIONS = [...MASK_OPTIONS, "alibiSlopes", "bias", "mask", "sinks", "selection"];

const MASKED_SOFTMAX: OpDef<SoftmaxAttrs> = {
  name: "maskedSoftmax",
  infer(inputs, attrs) {
    const { scores } = inputs;
    if (scores?.shape.length !== 4 || scores.dtype !== "f32") {
      throw shapeError(
        "maskedSoftmax",
        "scores must be [B, H, T, S] f32",
        scores ? formatTensor("scores", scores) : "nothing",
      );
    }
    if (attrs.selection !== "soft" && attrs.selection !== "hard") {
      const got = String(attrs.selection);
      throw new HeedError("UNSUPPORTED", `maskedSoftmax: selection must be "soft" or "hard"; got "${got}".`);
    }
    checkModifiers("maskedSoftmax", inputs, attrs, sizesOf(scores.shape));
    const probs = { shape: scores.shape, dtype: "f32" } as const;
    const lse = { shape: scores.shape.slice(0, 3), dtype: "f32" } as const;
    return attrs.selection === "hard" ? [probs, lse, probs] : [probs, lse];
  },
  lower: lowerMaskedSoftmax,
  backward(rec, { inputs, outputs }, [dsoft, dlse, dhard], needs): Record<string, Value> {
    if (dlse) {
      const mend = "Compute the loss from the weights or from out.";
      throw new HeedError("UNSUPPORTED", `maskedSoftmax: lse has no gradient. ${mend}`);
    }
    // Straight-through: the gradient of the one-hot is that of the weights which it was chosen from.
    const dprobs = dsoft && dhard ? add(rec, dsoft, dhard) : (dsoft ?? dhard);
    const [probs, lse] = outputs;
    invariant(probs && lse, "maskedSoftmax has too few outputs");
    return dprobs ? softmaxBackward(rec, { ...inputs, probs, lse, dprobs }, needs) : {};
  },
};

/** Gradients of what {@link maskedSoftmax} takes, by name: scores, bias, sinks. */
export function softmaxBackward(
  rec: Recorder,
  inputs: { readonly probs: Value; readonly lse: Value; readonly dprobs: Value; bias?: Value; sinks?: Value },
  needs: ReadonlySet<string>,
): Record<string, Value> {
  for (const name of ["alibiSlopes", "mask"]) {
    if (!needs.has(name)) continue;
    throw new HeedError("UNSUPPORTED", `maskedSoftmax: ${name} has no gradient. Give what is trained as bias.`);
  }
  const { probs, lse, dprobs, bias, sinks } = inputs;
  const [scores, dots] = rec.record(MASKED_SOFTMAX_BACKWARD, { probs, dprobs }, null);
  invariant(scores && dots, "maskedSoftmaxBackward returned too few outputs");
  return {
    scores,
    ...(bias && needs.has("bias") ? { bias: biasBackward(rec, scores, bias.shape) } : {}),
    ...(sinks && needs.has("sinks")
      ? { sinks: only(rec.record(ATTENTION_SINKS_BACKWARD, { sinks, lse, dots }, null)) }
      : {}),
  };
}

const MASKED_SOFTMAX_BACKWARD: OpDef<null> = {
  name: "maskedSoftmaxBackward",
  infer({ probs, dprobs }) {
    invariant(
      probs && dprobs && sameShape(probs.shape, dprobs.shape),
      "maskedSoftmaxBackward: probs and dprobs differ in shape",
    );
    return [
      { shape: probs.shape, dtype: "f32" },
      { shape: probs.shape.slice(0, -1), dtype: "f32" },
    ];
  },
  lower({ inputs, outputs }, { facts, dispatch }) {
    const [probs, dprobs] = [need(inputs, "probs"), need(inputs, "dprobs")];
    const [dscores, dots] = outputs as [Value, Value];
    const keys = dim(probs.shape, -1);
    const rows = numel(probs.shape.slice(0, -1));
    const choice = rowReduction(facts, rows, keys);
    dispatch({
      kernel: { kernel: SOFTMAX_BACKWARD, ...choice.variant },
      bindings: { probs, dprobs, dscores, dots },
      params: { rows, keys },
      workgroups: choice.workgroups,
    });
  },
};

/** The gradient of the sinks `[H]`: lse `[B, H, T]` includes them, dots `[B, H, T]` are `Σ_j probs · dprobs` of each row. */
export function sinksBackward(rec: Recorder, inputs: { sinks: Value; lse: Value; dots: Value }): Value {
  return only(rec.record(ATTENTION_SINKS_BACKWARD, inputs, null));
}

const ATTENTION_SINKS_BACKWARD: OpDef<null> = {
  name: "attentionSinksBackward",
  infer: ({ sinks }) => [{ shape: need({ sinks }, "sinks").shape, dtype: "f32" }],
  lower({ inputs, outputs }, { dispatch }) {
    const [sinks, lse, dots] = [need(inputs, "sinks"), need(inputs, "lse"), need(inputs, "dots")];
    const [batches, heads, queries] = [dim(lse.shape, 0), dim(lse.shape, 1), dim(lse.shape, 2)];
    dispatch({
      kernel: { kernel: SINKS_BACKWARD },
      bindings: { sinks, lse, dots, dsinks: only(outputs) },
      params: { batches, heads, queries },
      workgroups: [ceilDiv(heads, 64)],
    });
  },
};

interface BiasAttrs {
  readonly shape: Shape;
  readonly diagonals: boolean;
}

const ATTENTION_BIAS_BACKWARD: OpDef<BiasAttrs> = {
  name: "attentionBiasBackward",
  infer: (_, { shape }) => [{ shape, dtype: "f32" }],
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const dscores = need(inputs, "dscores");
    const { batch, heads, queryLength, keyLength } = sizesOf(dscores.shape);
    const [outBatches, outHeads, outQueries, outKeys] = attrs.shape as [number, number, number, number];
    dispatch({
      kernel: { kernel: BIAS_BACKWARD },
      bindings: { dscores, dbias: only(outputs) },
      params: {
        ...{ batches: batch, heads, queries: queryLength, keys: keyLength },
        ...{ out_batches: outBatches, out_heads: outHeads, out_queries: outQueries, out_keys: outKeys },
        diagonals: attrs.diagonals ? 1 : 0,
      },
      workgroups: spreadWorkgroups(ceilDiv(numel(attrs.shape), 64)),
    });
  },
};

/** The gradient of a bias of this shape: dscores `[B, H, T, S]` summed over the axes on which the bias repeats. */
export function biasBackward(rec: Recorder, dscores: Value, shape: Shape): Value {
  return only(rec.record(ATTENTION_BIAS_BACKWARD, { dscores }, { shape, diagonals: false }));
}

/** The gradient of a bias by distance, `[B|1, H, 1, T + S − 1]`: dscores `[B, H, T, S]` summed along its diagonals. */
export function diagonalSums(rec: Recorder, dscores: Value, shape: Shape): Value {
  return only(rec.record(ATTENTION_BIAS_BACKWARD, { dscores }, { shape, diagonals: true }));
}

/**
 * `probs = softmax(mask(scores + alibi + bias))` over the last axis: exactly 0 where masked, and in every place of a fully
 * masked row. Sinks are one more logit a head in the denominator. `selection: "hard"`: the one-hot of the largest.
 *
 * scores `[B, H, T, S]` f32 → probs of that shape. Gradients: scores, bias, sinks. Throws `SHAPE`, `USAGE` or `UNSUPPORTED`.
 * Source: Vaswani et al., "Attention Is All You Need" (2017), §3.2.3; straight-through: Bengio et al. (2013), §4.
 */
export function maskedSoftmax(rec: Recorder, scores: Value, options: MaskedSoftmaxOptions = {}): Value {
  return maskedSoftmaxWithLse(rec, scores, options).probs;
}

/** {@link maskedSoftmax} with `lse [B, H, T]`, natural log, sink included; −1e30 for a fully masked row without a sink. */
export function maskedSoftmaxWithLse(
  rec: Recorder,
  scores: Value,
  options: MaskedSoftmaxOptions = {},
): MaskedSoftmaxResult {
  checkOptions("maskedSoftmax", options, OPTIONS);
  const { alibiSlopes, bias, mask, sinks, selection = "soft" } = options;
  const { numbers, values } = splitMask(options);
  const inputs = { scores, ...values, alibiSlopes, bias, mask, sinks };
  const [probs, lse, hard] = rec.record(MASKED_SOFTMAX, inputs, { ...numbers, selection });
  invariant(probs && lse, "maskedSoftmax returned too few outputs");
  return { probs: hard ?? probs, lse };
}

function sizesOf(shape: Shape): ScoreSizes {
  const [batch = 1, heads = 1, queryLength = 1, keyLength = 1] = shape;
  return { batch, heads, queryLength, keyLength };
}

function lowerMaskedSoftmax(node: OpNode<SoftmaxAttrs>, context: LowerContext): void {
  const scores = need(node.inputs, "scores");
  const [probs, lse, selection] = node.outputs as [Value, Value, Value?];
  const sizes = sizesOf(scores.shape);
  const rows = numel(scores.shape.slice(0, 3));
  if (rows * sizes.keyLength === 0) return;
  const { variant, workgroups } = rowReduction(context.facts, rows, sizes.keyLength);
  const { parts, bindings, params } = linkModifiers(context, "maskedSoftmax", node.inputs, node.attrs, sizes);
  const shared = [...maskPart().parts, ...parts.parts, selection ? HARD : SOFT];
  context.dispatch({
    kernel: { kernel: SOFTMAX, ...variant, parts: [...(variant.parts ?? []), ...shared] },
    bindings: { scores, probs, lse, ...bindings, ...(selection ? { selection } : {}) },
    params: { ...params, rows, heads: sizes.heads, queries: sizes.queryLength, keys: sizes.keyLength },
    workgroups,
  });
}
