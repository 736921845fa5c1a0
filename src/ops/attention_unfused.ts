import lengthsCode from "../../shaders/lib/attention_lengths.wgsl";
import noLengthsCode from "../../shaders/lib/attention_lengths_none.wgsl";
import lseCode from "../../shaders/lib/attention_lse.wgsl";
import noLseCode from "../../shaders/lib/attention_lse_none.wgsl";
import softmaxBackwardCode from "../../shaders/masked_softmax_backward.wgsl";
import softmaxCode from "../../shaders/masked_softmax.wgsl";
import scoresCode from "../../shaders/qk_scores.wgsl";
import sumBackwardCode from "../../shaders/weighted_sum_backward.wgsl";
import sumCode from "../../shaders/weighted_sum.wgsl";
import { HeedError, invariant } from "../core/errors.ts";
import { ceilDiv, dim, formatTensor, numel, sameShape, shapeError } from "../core/shape.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { elementPart, link, maskPart } from "./attention_parts.ts";
import {
  type AttentionLayout,
  type AttentionMask,
  type AttentionSizes,
  checkHeads,
  checkOptions,
  checkSizes,
  headStrides,
  headsShape,
  maskBounds,
  scaleOf,
  valueDimOf,
} from "./attention_spec.ts";
import {
  type Inputs,
  type LowerContext,
  only,
  type OpDef,
  type OpNode,
  type Recorder,
  shader,
  type Value,
} from "./op.ts";
import { need, rowReduction } from "./rows.ts";

/** Sizes and layout of q, k, v and out; scores and probs are always `[B, H, T, S]` f32. */
export interface UnfusedOptions extends AttentionSizes {
  readonly batch: number;
  readonly queryLength: number;
  readonly keyLength: number;
  readonly layout: AttentionLayout;
}

/** What {@link maskedSoftmax} takes: the mask. */
export interface MaskedSoftmaxOptions extends AttentionMask {}

/** One product over heads: `dim` is D or Dv, whichever the operand has. */
interface HeadsAttrs {
  readonly batch: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly queryLength: number;
  readonly keyLength: number;
  readonly dim: number;
  readonly layout: AttentionLayout;
  readonly scale: number;
}

type MaskAttrs = Omit<MaskedSoftmaxOptions, "keyLengths"> & { readonly lse: boolean };

const SCORES = shader("qk_scores.wgsl", scoresCode);
const SUM = shader("weighted_sum.wgsl", sumCode);
const SUM_BACKWARD = shader("weighted_sum_backward.wgsl", sumBackwardCode);
const SOFTMAX = shader("masked_softmax.wgsl", softmaxCode);
const SOFTMAX_BACKWARD = shader("masked_softmax_backward.wgsl", softmaxBackwardCode);
const LENGTHS = shader("lib/attention_lengths.wgsl", lengthsCode);
const NO_LENGTHS = shader("lib/attention_lengths_none.wgsl", noLengthsCode);
const LSE = shader("lib/attention_lse.wgsl", lseCode);
const NO_LSE = shader("lib/attention_lse_none.wgsl", noLseCode);

const SIZE_OPTIONS = ["heads", "kvHeads", "headDim", "valueDim", "batch", "queryLength", "keyLength", "layout"];
/** Invocations of a workgroup, and rows that each computes together. */
const SIZE = 64;
const ROWS = 16;

const QK_SCORES: OpDef<HeadsAttrs> = {
  name: "qkScores",
  infer({ q, k }, attrs) {
    checkOperand("qkScores", "q", q, attrs, "query");
    checkOperand("qkScores", "k", k, attrs, "key");
    if (q?.dtype !== k?.dtype) {
      throw shapeError("qkScores", "q and k must have one dtype", `q ${q?.dtype}, k ${k?.dtype}`);
    }
    return [{ shape: scoresShape(attrs), dtype: "f32" }];
  },
  lower(node, { facts, dispatch }) {
    const { attrs, inputs } = node;
    const [q, k] = [need(inputs, "q"), need(inputs, "k")];
    dispatch({
      kernel: kernelOf(SCORES, q, facts),
      bindings: { x: q, y: k, scores: only(node.outputs) },
      params: { ...sizeParams(attrs), ...strideParams("x", q, attrs, "query"), ...strideParams("y", k, attrs, "key") },
      workgroups: [ceilDiv(attrs.keyLength, SIZE), ceilDiv(attrs.queryLength, ROWS), attrs.batch * attrs.heads],
    });
  },
  backward(rec, { inputs, attrs }, [dscores], needs): Record<string, Value> {
    const grads: Record<string, Value> = {};
    if (!dscores) return grads;
    if (needs.has("q")) grads["q"] = only(rec.record(WEIGHTED_SUM, { probs: dscores, v: inputs["k"] }, attrs));
    if (needs.has("k"))
      grads["k"] = only(rec.record(WEIGHTED_SUM_BACKWARD, { weights: dscores, x: inputs["q"] }, attrs));
    return grads;
  },
};

const WEIGHTED_SUM: OpDef<HeadsAttrs> = {
  name: "weightedSum",
  infer({ probs, v }, attrs) {
    checkWeights("weightedSum", "probs", probs, attrs);
    checkOperand("weightedSum", "v", v, attrs, "key");
    return [{ shape: headsShape(attrs.layout, attrs.batch, attrs.heads, attrs.queryLength, attrs.dim), dtype: "f32" }];
  },
  lower({ attrs, inputs, outputs }, { facts, dispatch }) {
    const [probs, v] = [need(inputs, "probs"), need(inputs, "v")];
    const out = only(outputs);
    dispatch({
      kernel: kernelOf(SUM, v, facts),
      bindings: { weights: probs, y: v, out },
      params: { ...sizeParams(attrs), ...strideParams("y", v, attrs, "key"), ...outParams(out, attrs, "query") },
      workgroups: [ceilDiv(attrs.dim, SIZE), ceilDiv(attrs.queryLength, ROWS), attrs.batch * attrs.heads],
    });
  },
  backward(rec, { inputs, attrs }, [dout], needs): Record<string, Value> {
    const grads: Record<string, Value> = {};
    if (!dout) return grads;
    if (needs.has("probs")) grads["probs"] = only(rec.record(QK_SCORES, { q: dout, k: inputs["v"] }, attrs));
    if (needs.has("v"))
      grads["v"] = only(rec.record(WEIGHTED_SUM_BACKWARD, { weights: inputs["probs"], x: dout }, attrs));
    return grads;
  },
};

const WEIGHTED_SUM_BACKWARD: OpDef<HeadsAttrs> = {
  name: "weightedSumBackward",
  infer({ weights, x }, attrs) {
    checkWeights("weightedSumBackward", "weights", weights, attrs);
    checkOperand("weightedSumBackward", "x", x, attrs, "query");
    return [{ shape: headsShape(attrs.layout, attrs.batch, attrs.kvHeads, attrs.keyLength, attrs.dim), dtype: "f32" }];
  },
  lower({ attrs, inputs, outputs }, { facts, dispatch }) {
    const [weights, x] = [need(inputs, "weights"), need(inputs, "x")];
    const out = only(outputs);
    dispatch({
      kernel: kernelOf(SUM_BACKWARD, x, facts),
      bindings: { weights, x, out },
      params: { ...sizeParams(attrs), ...strideParams("x", x, attrs, "query"), ...outParams(out, attrs, "key") },
      workgroups: [ceilDiv(attrs.dim, SIZE), ceilDiv(attrs.keyLength, ROWS), attrs.batch * attrs.kvHeads],
    });
  },
};

const MASKED_SOFTMAX: OpDef<MaskAttrs> = {
  name: "maskedSoftmax",
  infer({ scores, keyLengths }, attrs) {
    checkOptions("maskedSoftmax", attrs, ["causal", "window", "queryStart", "lse"]);
    maskBounds("maskedSoftmax", attrs);
    if (scores?.shape.length !== 4 || scores.dtype !== "f32") {
      throw shapeError(
        "maskedSoftmax",
        "scores must be [B, H, T, S] f32",
        scores ? formatTensor("scores", scores) : "nothing",
      );
    }
    if (keyLengths && (numel(keyLengths.shape) !== dim(scores.shape, 0) || keyLengths.dtype !== "u32")) {
      const got = `${formatTensor("keyLengths", keyLengths)}, ${formatTensor("scores", scores)}`;
      throw shapeError("maskedSoftmax", "keyLengths must be [B] u32", got);
    }
    const probs = { shape: scores.shape, dtype: "f32" } as const;
    return attrs.lse ? [probs, { shape: scores.shape.slice(0, 3), dtype: "f32" }] : [probs];
  },
  lower: lowerMaskedSoftmax,
  backward(rec, { outputs }, [dprobs, dlse]): Record<string, Value> {
    if (dlse)
      throw new HeedError(
        "UNSUPPORTED",
        "maskedSoftmax: lse has no gradient. Compute the loss from the weights or from out.",
      );
    const [probs] = outputs;
    return dprobs ? { scores: only(rec.record(MASKED_SOFTMAX_BACKWARD, { probs, dprobs }, null)) } : {};
  },
};

const MASKED_SOFTMAX_BACKWARD: OpDef<null> = {
  name: "maskedSoftmaxBackward",
  infer({ probs, dprobs }) {
    invariant(
      probs && dprobs && sameShape(probs.shape, dprobs.shape),
      "maskedSoftmaxBackward: probs and dprobs differ in shape",
    );
    return [{ shape: probs.shape, dtype: "f32" }];
  },
  lower({ inputs, outputs }, { facts, dispatch }) {
    const [probs, dprobs] = [need(inputs, "probs"), need(inputs, "dprobs")];
    const keys = dim(probs.shape, -1);
    const rows = numel(probs.shape.slice(0, -1));
    const choice = rowReduction(facts, rows, keys);
    dispatch({
      kernel: { kernel: SOFTMAX_BACKWARD, ...choice.variant },
      bindings: { probs, dprobs, dscores: only(outputs) },
      params: { rows, keys },
      workgroups: choice.workgroups,
    });
  },
};

/**
 * `scores[b, h, i, j] = scale · q[b, h, i] · k[b, g, j]`, g = ⌊h / (H / Hkv)⌋, before any mask; scale is `1 / √D` by default.
 *
 * q `[B, H, T, D]`, k `[B, Hkv, S, D]`, or rows of them (see {@link AttentionLayout}), f32 or f16 → `[B, H, T, S]` f32.
 * Throws `SHAPE`, `USAGE` or `UNSUPPORTED`. Source: Vaswani et al., "Attention Is All You Need" (2017), eq. 1.
 */
export function qkScores(
  rec: Recorder,
  { q, k }: { q: Value; k: Value },
  options: UnfusedOptions & { readonly scale?: number },
): Value {
  checkOptions("qkScores", options, [...SIZE_OPTIONS, "scale"]);
  checkSizes("qkScores", options, [formatTensor("q", q), formatTensor("k", k)].join(", "));
  const attrs = headsAttrs(options, options.headDim, scaleOf("qkScores", options));
  return only(rec.record(QK_SCORES, { q, k }, attrs));
}

/**
 * `probs = softmax(mask(scores))` over the last axis: exactly 0 where masked, and in every place of a fully masked row.
 *
 * scores `[B, H, T, S]` f32 → probs of that shape. Throws `SHAPE`, `USAGE` or `UNSUPPORTED`.
 * Source: Vaswani et al., "Attention Is All You Need" (2017), §3.2.3.
 */
export function maskedSoftmax(rec: Recorder, scores: Value, options: MaskedSoftmaxOptions = {}): Value {
  const { keyLengths, ...mask } = options;
  return only(rec.record(MASKED_SOFTMAX, { scores, keyLengths }, { ...mask, lse: false }));
}

/** {@link maskedSoftmax} that also gives `lse [B, H, T]`, natural log; −1e30 for a fully masked row. */
export function maskedSoftmaxWithLse(
  rec: Recorder,
  scores: Value,
  options: MaskedSoftmaxOptions = {},
): { probs: Value; lse: Value } {
  const { keyLengths, ...mask } = options;
  const [probs, lse] = rec.record(MASKED_SOFTMAX, { scores, keyLengths }, { ...mask, lse: true });
  invariant(probs && lse, "maskedSoftmax returned too few outputs");
  return { probs, lse };
}

/**
 * `out[b, h, i] = Σ_j probs[b, h, i, j] · v[b, g, j]`, g = ⌊h / (H / Hkv)⌋.
 *
 * probs `[B, H, T, S]` f32, v `[B, Hkv, S, Dv]` or rows of it, f32 or f16 → `[B, H, T, Dv]` or rows `[B·T, H·Dv]`, f32.
 * Throws `SHAPE` or `UNSUPPORTED`. Source: Vaswani et al., "Attention Is All You Need" (2017), eq. 1.
 */
export function weightedSum(rec: Recorder, { probs, v }: { probs: Value; v: Value }, options: UnfusedOptions): Value {
  checkOptions("weightedSum", options, SIZE_OPTIONS);
  checkSizes("weightedSum", options, [formatTensor("probs", probs), formatTensor("v", v)].join(", "));
  return only(rec.record(WEIGHTED_SUM, { probs, v }, headsAttrs(options, valueDimOf(options), 1)));
}

function headsAttrs(
  { batch, heads, kvHeads, queryLength, keyLength, layout }: UnfusedOptions,
  width: number,
  scale: number,
): HeadsAttrs {
  return { batch, heads, kvHeads, queryLength, keyLength, layout, dim: width, scale };
}

function lowerMaskedSoftmax(node: OpNode<MaskAttrs>, { facts, dispatch }: LowerContext): void {
  const { scores, keyLengths } = node.inputs as { scores: Value; keyLengths?: Value };
  const [probs, lse] = node.outputs as [Value, Value?];
  const [, heads = 1, queries = 1, keys = 1] = scores.shape;
  const rows = numel(scores.shape.slice(0, 3));
  const { variant, workgroups } = rowReduction(facts, rows, keys);
  const shared = [keyLengths ? LENGTHS : NO_LENGTHS, lse ? LSE : NO_LSE];
  dispatch({
    kernel: { kernel: SOFTMAX, ...variant, parts: [...(variant.parts ?? []), ...maskPart().parts, ...shared] },
    bindings: { scores, probs, ...(keyLengths ? { key_lengths: keyLengths } : {}), ...(lse ? { lse } : {}) },
    params: {
      ...maskBounds("maskedSoftmax", node.attrs),
      rows,
      heads,
      queries,
      keys,
      position: node.attrs.queryStart ?? 0,
    },
    workgroups,
  });
}

function kernelOf(kernel: typeof SUM, operand: Value, facts: GpuFacts) {
  return { ...link(kernel, elementPart(operand.dtype as "f32" | "f16", facts)), overrides: { WORKGROUP_SIZE: SIZE } };
}

function scoresShape({ batch, heads, queryLength, keyLength }: HeadsAttrs): number[] {
  return [batch, heads, queryLength, keyLength];
}

function checkWeights(op: string, name: string, value: Value | undefined, attrs: HeadsAttrs): void {
  const shape = scoresShape(attrs);
  if (value && sameShape(value.shape, shape) && value.dtype === "f32") return;
  throw shapeError(
    op,
    `${name} must be [B, H, T, S] = [${shape.join(", ")}] f32`,
    value ? formatTensor(name, value) : "nothing",
  );
}

/** Heads and length of an operand on the side of the queries or of the keys. */
function sideOf({ heads, kvHeads, queryLength, keyLength, dim: width }: HeadsAttrs, side: "query" | "key") {
  return side === "query"
    ? { heads, length: queryLength, dim: width }
    : { heads: kvHeads, length: keyLength, dim: width };
}

function checkOperand(op: string, name: string, value: Inputs[string], attrs: HeadsAttrs, side: "query" | "key"): void {
  checkHeads(op, name, value, { layout: attrs.layout, batch: attrs.batch, ...sideOf(attrs, side) });
}

function sizeParams({ heads, kvHeads, queryLength, keyLength, dim: width, scale }: HeadsAttrs): Record<string, number> {
  return { heads, group: heads / kvHeads, queries: queryLength, keys: keyLength, width, scale };
}

function strideParams(name: string, value: Value, attrs: HeadsAttrs, side: "query" | "key"): Record<string, number> {
  const s = headStrides(value, attrs.layout, sideOf(attrs, side));
  return { [`${name}_offset`]: s.offset, [`${name}_batch`]: s.batch, [`${name}_head`]: s.head, [`${name}_row`]: s.row };
}

function outParams(out: Value, attrs: HeadsAttrs, side: "query" | "key"): Record<string, number> {
  const s = headStrides(out, attrs.layout, sideOf(attrs, side));
  return { out_batch: s.batch, out_head: s.head, out_row: s.row };
}
