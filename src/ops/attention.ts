import lanesCode from "../../shaders/attention_lanes.wgsl";
import denseCode from "../../shaders/lib/attention_dense.wgsl";
import denseScalarCode from "../../shaders/lib/attention_dense_scalar.wgsl";
import denseVec4Code from "../../shaders/lib/attention_dense_vec4.wgsl";
import lengthsCode from "../../shaders/lib/attention_lengths.wgsl";
import noLengthsCode from "../../shaders/lib/attention_lengths_none.wgsl";
import lseCode from "../../shaders/lib/attention_lse.wgsl";
import noLseCode from "../../shaders/lib/attention_lse_none.wgsl";
import { HeedError, invariant } from "../core/errors.ts";
import { ceilDiv, formatTensor, numel, shapeError } from "../core/shape.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { blockPart, elementPart, type LinkedPart, link, LOG2_E, maskPart, vec4Part } from "./attention_parts.ts";
import {
  type AttentionSpec,
  checkHeads,
  checkOptions,
  checkSizes,
  type HeadStrides,
  headStrides,
  headsShape,
  maskBounds,
  SPEC_OPTIONS,
  scaleOf,
  valueDimOf,
} from "./attention_spec.ts";
import { attentionQueryTile } from "./attention_tile.ts";
import type { Bound, Dispatch, Inputs, OpDef, OpNode, Recorder, Value } from "./op.ts";
import { shader } from "./op.ts";

export { attentionDecodePaged, attentionPaged } from "./attention_paged.ts";
export { attentionQueryTile } from "./attention_tile.ts";

/** What {@link attention} takes beyond q, k and v. */
export interface AttentionOptions extends AttentionSpec {
  /** Also return the log-sum-exp of each row. */
  readonly keep?: "lse";
}

interface AttentionAttrs extends Omit<AttentionOptions, "keyLengths"> {}

const LANES = shader("attention_lanes.wgsl", lanesCode);
const DENSE = shader("lib/attention_dense.wgsl", denseCode);
const DENSE_VEC4 = shader("lib/attention_dense_vec4.wgsl", denseVec4Code);
const DENSE_SCALAR = shader("lib/attention_dense_scalar.wgsl", denseScalarCode);
const LENGTHS = shader("lib/attention_lengths.wgsl", lengthsCode);
const NO_LENGTHS = shader("lib/attention_lengths_none.wgsl", noLengthsCode);
const LSE = shader("lib/attention_lse.wgsl", lseCode);
const NO_LSE = shader("lib/attention_lse_none.wgsl", noLseCode);

const ATTENTION: OpDef<AttentionAttrs> = {
  name: "attention",
  infer(inputs, attrs) {
    checkInputs(inputs, attrs);
    const { batch, heads, queryLength, layout } = attrs;
    const out = { shape: headsShape(layout, batch, heads, queryLength, valueDimOf(attrs)), dtype: "f32" } as const;
    return attrs.keep === "lse" ? [out, { shape: [batch, heads, queryLength], dtype: "f32" }] : [out];
  },
  lower(node, context) {
    if (node.outputs.some((out) => numel(out.shape) === 0)) return;
    context.dispatch(lanesDispatch(node, context.facts));
  },
};

/**
 * `out = softmax(mask(scale · q kᵀ)) v` in one kernel: memory O(T·D), key tiles that the mask rules out are not visited.
 *
 * layout "bhtd": q `[B, H, T, D]`, k `[B, Hkv, S, D]`, v `[B, Hkv, S, Dv]` → out `[B, H, T, Dv]`. layout "rows": q `[B·T, H·D]`,
 * k `[B·S, Hkv·D]`, v `[B·S, Hkv·Dv]` → out `[B·T, H·Dv]`; each may be columns of a wider matrix. f32 or f16, all three
 * alike; sums and out are f32. `lse` `[B, H, T]` (natural log) with `keep: "lse"`. A row with no kept key: out 0, lse −1e30.
 * Throws `SHAPE`, `USAGE` or `UNSUPPORTED` before anything is recorded.
 * Source: Dao, "FlashAttention-2" (2023), §3.1, Alg. 1; grouped heads: Ainslie et al., "GQA" (2023), §2.2.
 */
export function attention(
  rec: Recorder,
  { q, k, v }: { q: Value; k: Value; v: Value },
  { keyLengths, ...attrs }: AttentionOptions,
): { out: Value; lse?: Value } {
  const [out, lse] = rec.record(ATTENTION, { q, k, v, keyLengths }, attrs);
  invariant(out, "attention returned no output");
  return { out, lse };
}

function checkInputs({ q, k, v, keyLengths }: Inputs, attrs: AttentionAttrs): void {
  checkOptions("attention", attrs, [...SPEC_OPTIONS, "keep"]);
  const tensors = [formatOptional("q", q), formatOptional("k", k)].join(", ");
  checkSizes("attention", attrs, tensors);
  const { layout, batch, heads, kvHeads, headDim, queryLength, keyLength } = attrs;
  checkHeads("attention", "q", q, { layout, batch, heads, length: queryLength, dim: headDim });
  checkHeads("attention", "k", k, { layout, batch, heads: kvHeads, length: keyLength, dim: headDim });
  checkHeads("attention", "v", v, { layout, batch, heads: kvHeads, length: keyLength, dim: valueDimOf(attrs) });
  if (q.dtype !== k.dtype || q.dtype !== v.dtype) {
    throw shapeError("attention", "q, k and v must have one dtype", [formatTensor("q", q), formatTensor("k", k), formatTensor("v", v)].join(", "));
  }
  if (keyLengths && (numel(keyLengths.shape) !== batch || keyLengths.dtype !== "u32")) {
    throw shapeError("attention", `keyLengths must be [B] = [${batch}] u32`, formatTensor("keyLengths", keyLengths));
  }
  if (attrs.keep !== undefined && attrs.keep !== "lse") {
    throw new HeedError("UNSUPPORTED", `attention: keep must be "lse" or left out; got "${String(attrs.keep)}".`);
  }
  maskBounds("attention", attrs);
  scaleOf("attention", attrs);
}

function formatOptional(name: string, value: Value | undefined): string {
  return value ? formatTensor(name, value) : `no ${name}`;
}

function lanesDispatch(node: OpNode<AttentionAttrs>, facts: GpuFacts): Dispatch {
  const { batch, heads, queryLength } = node.attrs;
  const dense = denseAddressing(node, facts);
  const size = attentionQueryTile(facts);
  return {
    kernel: { ...link(LANES, ...dense.parts, blockPart(facts)), overrides: { WORKGROUP_SIZE: size / 2 } },
    bindings: dense.bindings,
    params: dense.params,
    workgroups: [ceilDiv(queryLength, size), heads, batch],
  };
}

/** The parts, bindings and params by which a kernel reads this node's q, k and v. */
function denseAddressing(
  { inputs, outputs, attrs }: OpNode<AttentionAttrs>,
  facts: GpuFacts,
): { parts: LinkedPart[]; bindings: Record<string, Bound>; params: Record<string, number> } {
  const { q, k, v, keyLengths } = inputs as { q: Value; k: Value; v: Value; keyLengths?: Value };
  const [out, lse] = outputs as [Value, Value?];
  const { heads, kvHeads, headDim, queryLength, keyLength, layout } = attrs;
  const valueDim = valueDimOf(attrs);
  const strides = {
    q: headStrides(q, layout, { heads, length: queryLength, dim: headDim }),
    k: headStrides(k, layout, { heads: kvHeads, length: keyLength, dim: headDim }),
    v: headStrides(v, layout, { heads: kvHeads, length: keyLength, dim: valueDim }),
    out: headStrides(out, layout, { heads, length: queryLength, dim: valueDim }),
  };
  const width = [headDim, valueDim, ...Object.values(strides).flatMap((s) => Object.values(s))].every((n) => n % 4 === 0) ? 4 : 1;
  const dtype = q.dtype as "f32" | "f16";
  return {
    parts: [
      maskPart(),
      { parts: [DENSE, keyLengths ? LENGTHS : NO_LENGTHS, lse ? LSE : NO_LSE] },
      ...(width === 4 ? [{ parts: [DENSE_VEC4] }, vec4Part(dtype, facts)] : [{ parts: [DENSE_SCALAR] }, elementPart(dtype, facts)]),
    ],
    bindings: { q, k, v, out, ...(keyLengths ? { key_lengths: keyLengths } : {}), ...(lse ? { lse } : {}) },
    params: denseParams(attrs, strides, width),
  };
}

function denseParams(
  attrs: AttentionAttrs,
  strides: { q: HeadStrides; k: HeadStrides; v: HeadStrides; out: HeadStrides },
  width: number,
): Record<string, number> {
  const valueDim = valueDimOf(attrs);
  const params: Record<string, number> = {
    ...maskBounds("attention", attrs),
    heads: attrs.heads,
    group: attrs.heads / attrs.kvHeads,
    columns: ceilDiv(attrs.headDim, 4),
    value_columns: ceilDiv(valueDim, 4),
    head_dim: attrs.headDim,
    value_dim: valueDim,
    queries: attrs.queryLength,
    keys: attrs.keyLength,
    position: attrs.queryStart ?? 0,
    factor: scaleOf("attention", attrs) * LOG2_E,
    splits: 1,
    split_keys: attrs.keyLength,
  };
  for (const [name, s] of Object.entries(strides)) {
    if (name !== "out") params[`${name}_offset`] = s.offset / width;
    params[`${name}_batch`] = s.batch / width;
    params[`${name}_head`] = s.head / width;
    params[`${name}_row`] = s.row / width;
  }
  return params;
}
