import scoresCode from "../../shaders/qk_scores.wgsl";
import sumBackwardCode from "../../shaders/weighted_sum_backward.wgsl";
import sumCode from "../../shaders/weighted_sum.wgsl";
import { invariant } from "../core/errors.ts";
import { ceilDiv, formatTensor, sameShape, shapeError } from "../core/shape.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { type Heads, padDispatch } from "./attention_pad.ts";
import { elementPart, link } from "./attention_parts.ts";
import {
  type AttentionLayout,
  type AttentionSizes,
  type AttentionSpec,
  checkHeads,
  checkOptions,
  checkSizes,
  type HeadStrides,
  headStrides,
  headsShape,
  scaleOf,
  SIZE_OPTIONS,
  softcapOf,
  SPEC_OPTIONS,
  valueDimOf,
} from "./attention_spec.ts";
import type { MaskNumbers } from "./attention_table.ts";
import { dropout } from "./dropout.ts";
import { diagonalSums, maskedSoftmaxWithLse, softmaxBackward } from "./masked_softmax.ts";
import { type Inputs, type LowerContext, only, type OpDef, type Recorder, shader, type Value } from "./op.ts";
import { addRelativeBias, relativeBias } from "./relative_bias.ts";
import { need } from "./rows.ts";
import { SOFTCAP_BACKWARD } from "./softcap.ts";

export { maskedSoftmax, maskedSoftmaxWithLse } from "./masked_softmax.ts";

/** Sizes and layout of q, k, v and out; scores and probs are always `[B, H, T, S]` f32. */
export interface UnfusedOptions extends AttentionSizes {
  readonly batch: number;
  readonly queryLength: number;
  readonly keyLength: number;
  readonly layout: AttentionLayout;
}

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
  /** 0: none. */
  readonly softcap: number;
}

const SCORES = shader("qk_scores.wgsl", scoresCode);
const SUM = shader("weighted_sum.wgsl", sumCode);
const SUM_BACKWARD = shader("weighted_sum_backward.wgsl", sumBackwardCode);

/** Invocations of a workgroup, and rows that each computes together. */
const SIZE = 64;
const ROWS = 16;

const QK_SCORES: OpDef<HeadsAttrs> = {
  name: "qkScores",
  infer({ q, k }, attrs) {
    checkOperand("qkScores", "q", q, attrs, "query");
    checkOperand("qkScores", "k", k, attrs, "key");
    return [{ shape: scoresShape(attrs), dtype: "f32" }];
  },
  lower({ attrs, inputs, outputs }, context) {
    const { facts, dispatch } = context;
    const [q, k] = [need(inputs, "q"), need(inputs, "k")];
    // One alias serves both operands: where dout is f32 and v f16, v is widened first.
    const mixed = q.dtype !== k.dtype;
    const x = headsOf(q, attrs, "query");
    const y = headsOf(k, attrs, "key");
    const [left, right] = mixed ? [widened(x, "q", attrs, context), widened(y, "k", attrs, context)] : [x, y];
    dispatch({
      kernel: kernelOf(SCORES, left.value, facts),
      bindings: { x: left.value, y: right.value, scores: only(outputs) },
      params: {
        ...sizeParams(attrs),
        softcap: attrs.softcap,
        ...strideParams("x", left.strides),
        ...strideParams("y", right.strides),
      },
      workgroups: [ceilDiv(attrs.keyLength, SIZE), ceilDiv(attrs.queryLength, ROWS), attrs.batch * attrs.heads],
    });
  },
  backward(rec, { inputs, outputs, attrs: { softcap, ...rest } }, [dcapped], needs): Record<string, Value> {
    const grads: Record<string, Value> = {};
    if (!dcapped) return grads;
    const attrs = { ...rest, softcap: 0 };
    const dscores = softcap > 0 ? only(rec.record(SOFTCAP_BACKWARD, { y: outputs[0], dy: dcapped }, softcap)) : dcapped;
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
      params: {
        ...sizeParams(attrs),
        ...strideParams("y", headsOf(v, attrs, "key").strides),
        ...outParams(out, attrs, "query"),
      },
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
      params: {
        ...sizeParams(attrs),
        ...strideParams("x", headsOf(x, attrs, "query").strides),
        ...outParams(out, attrs, "key"),
      },
      workgroups: [ceilDiv(attrs.dim, SIZE), ceilDiv(attrs.keyLength, ROWS), attrs.batch * attrs.kvHeads],
    });
  },
};

/**
 * `scores[b, h, i, j] = scale · q[b, h, i] · k[b, g, j]`, g = ⌊h / (H / Hkv)⌋, before any mask; scale is `1 / √D` by default.
 * With a softcap c: `c · tanh(scores / c)`.
 *
 * q `[B, H, T, D]`, k `[B, Hkv, S, D]`, or rows of them (see {@link AttentionLayout}), f32 or f16 → `[B, H, T, S]` f32.
 * Throws `SHAPE`, `USAGE` or `UNSUPPORTED`. Source: Vaswani et al., "Attention Is All You Need" (2017), eq. 1.
 */
export function qkScores(
  rec: Recorder,
  { q, k }: { q: Value; k: Value },
  options: UnfusedOptions & { readonly scale?: number; readonly softcap?: number },
): Value {
  checkOptions("qkScores", options, [...SIZE_OPTIONS, "scale", "softcap"]);
  checkSizes("qkScores", options, [formatTensor("q", q), formatTensor("k", k)].join(", "));
  if (q.dtype !== k.dtype) {
    throw shapeError("qkScores", "q and k must have one dtype", `${formatTensor("q", q)}, ${formatTensor("k", k)}`);
  }
  const softcap = softcapOf("qkScores", options.softcap);
  const attrs = { ...headsAttrs(options, options.headDim, scaleOf("qkScores", options)), softcap };
  return only(rec.record(QK_SCORES, { q, k }, attrs));
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

/** What {@link attentionUnfused} returns. */
export interface UnfusedResult {
  /** `[B, H, T, Dv]`, or rows `[B·T, H·Dv]`. */
  readonly out: Value;
  /** `[B, H, T, S]`: scaled and capped products, before biases and masks. */
  readonly scores: Value;
  /** `[B, H, T, S]`: the weights (one-hot for hard selection), before dropout. */
  readonly probs: Value;
  /** `[B, H, T]`: natural log of the sum of exponentials, the sink's included; −1e30 for a row with no kept key. */
  readonly lse: Value;
}

/**
 * Attention by the three named kernels: {@link qkScores}, `maskedSoftmax`, {@link weightedSum}. The whole of
 * {@link AttentionSpec}, memory O(T·S). Gradients: q, k, v, bias, relativeBias.weight, sinks.
 *
 * q, k, v as `attention` takes them. Throws `SHAPE`, `USAGE` or `UNSUPPORTED` before anything is recorded, for an option
 * that does not exist too.
 *
 * @example
 * const sizes = { batch: 1, heads: 8, kvHeads: 2, headDim: 64, queryLength: 16, keyLength: 16, layout: "bhtd" } as const;
 * const { out, probs } = attentionUnfused(rec, { q, k, v }, { ...sizes, causal: true, window: 8, sinks });
 */
export function attentionUnfused(
  rec: Recorder,
  { q, k, v }: { q: Value; k: Value; v: Value },
  options: AttentionSpec,
  named: (value: Value, name: "scores" | "probs") => Value = (value) => value,
): UnfusedResult {
  checkOptions("attention", options, SPEC_OPTIONS);
  const { heads, kvHeads, headDim, valueDim, batch, queryLength, keyLength, layout } = options;
  const sizes = { heads, kvHeads, headDim, valueDim, batch, queryLength, keyLength, layout };
  const {
    scale,
    softcap,
    relativeBias: relative,
    dropout: drop,
    causal,
    window,
    queryStart,
    prefix,
    keyLengths,
  } = options;
  const { alibiSlopes, bias, mask, sinks, selection } = options;
  const capped = named(qkScores(rec, { q, k }, { ...sizes, scale, softcap }), "scores");
  const scores = relative
    ? addRelativeBias(rec, capped, relativeBias(rec, relative, { batch, heads, queryLength, keyLength, queryStart }))
    : capped;
  const softmax = maskedSoftmaxWithLse(rec, scores, {
    ...{ causal, window, queryStart, prefix, keyLengths },
    ...{ alibiSlopes, bias, mask, sinks, selection },
  });
  const { lse } = softmax;
  const probs = named(softmax.probs, "probs");
  const weights = drop ? dropout(rec, probs, drop) : probs;
  return { out: weightedSum(rec, { probs: weights, v }, sizes), scores: capped, probs, lse };
}

/** A fused call as its gradient sees it: numbers, and the tensors by name. */
export interface FusedCall extends UnfusedOptions, MaskNumbers {
  readonly scale?: number;
  readonly softcap?: number;
}

/**
 * Gradients of a fused call by the three kernels, memory O(T·S): for what the fused gradient does not know.
 * `inputs`: q, k, v and the optional tensors of `attention`; `relative` as `relativeBias` returns it.
 */
export function unfusedGradients(
  rec: Recorder,
  call: FusedCall,
  inputs: Inputs,
  dout: Value,
  needs: ReadonlySet<string>,
): Record<string, Value> {
  const [q, k, v] = [need(inputs, "q"), need(inputs, "k"), need(inputs, "v")];
  const { relative, alibiSlopes, bias, mask, sinks, queryStart, prefix, keyLengths } = inputs;
  const scoring = { ...headsAttrs(call, call.headDim, scaleOf("attention", call)), softcap: call.softcap ?? 0 };
  const summing = headsAttrs(call, valueDimOf(call), 1);
  const capped = only(rec.record(QK_SCORES, { q, k }, scoring));
  const { probs, lse } = maskedSoftmaxWithLse(rec, relative ? addRelativeBias(rec, capped, relative) : capped, {
    ...{ causal: call.causal, window: call.window, alibiSlopes, bias, mask, sinks },
    queryStart: queryStart ?? call.queryStart,
    prefix: prefix ?? call.prefix,
    keyLengths: keyLengths ?? call.keyLengths,
  });
  const dprobs = only(rec.record(QK_SCORES, { q: dout, k: v }, summing));
  const { scores: dscores, ...rest } = softmaxBackward(rec, { probs, lse, dprobs, bias, sinks }, needs);
  invariant(dscores && QK_SCORES.backward, "masked softmax gave no gradient of its scores");
  const node = { op: QK_SCORES, inputs: { q, k }, outputs: [capped], attrs: scoring, index: 0, label: "attention" };
  return {
    ...rest,
    ...(relative && needs.has("relative") ? { relative: diagonalSums(rec, dscores, relative.shape) } : {}),
    ...(needs.has("v") ? { v: only(rec.record(WEIGHTED_SUM_BACKWARD, { weights: probs, x: dout }, summing)) } : {}),
    ...QK_SCORES.backward(rec, node, [dscores], needs),
  };
}

function headsAttrs(
  { batch, heads, kvHeads, queryLength, keyLength, layout }: UnfusedOptions,
  width: number,
  scale: number,
): HeadsAttrs {
  return { batch, heads, kvHeads, queryLength, keyLength, layout, dim: width, scale, softcap: 0 };
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

function headsOf(value: Value, attrs: HeadsAttrs, side: "query" | "key"): Heads {
  const sizes = sideOf(attrs, side);
  return { value, strides: headStrides(value, attrs.layout, sizes), ...sizes };
}

/** An f16 operand copied to f32; an f32 one as it is. */
function widened(heads: Heads, name: string, { batch }: HeadsAttrs, { facts, temp, dispatch }: LowerContext): Heads {
  if (heads.value.dtype === "f32") return heads;
  const { heads: count, length, dim } = heads;
  const strides = { offset: 0, batch: count * length * dim, head: length * dim, row: dim };
  const copy = { ...heads, value: temp(name, [batch, count, length, dim], "f32"), strides };
  dispatch(padDispatch(heads, copy, facts));
  return copy;
}

function strideParams(name: string, s: HeadStrides): Record<string, number> {
  return { [`${name}_offset`]: s.offset, [`${name}_batch`]: s.batch, [`${name}_head`]: s.head, [`${name}_row`]: s.row };
}

function outParams(out: Value, attrs: HeadsAttrs, side: "query" | "key"): Record<string, number> {
  const s = headStrides(out, attrs.layout, sideOf(attrs, side));
  return { out_batch: s.batch, out_head: s.head, out_row: s.row };
}
