import denseCode from "../../shaders/lib/attention_dense.wgsl";
import headsCode from "../../shaders/lib/attention_heads.wgsl";
import lseCode from "../../shaders/lib/attention_lse.wgsl";
import noLseCode from "../../shaders/lib/attention_lse_none.wgsl";
import { chosenPrefill, chosenSplits } from "./choices.ts";
import { HeedError, invariant } from "../core/errors.ts";
import { ceilDiv, formatTensor, numel, shapeError } from "../core/shape.ts";
import type { GpuFacts } from "../gpu/device.ts";
import {
  type Addressing,
  type AttentionKernel,
  checkKernel,
  isDecode,
  lowerDecode,
  prefillDispatch,
  prefillKernel,
  splitKeys,
  tileSizeOf,
} from "./attention_kernels.ts";
import { type FusedAttrs, fusedGradients, hasFusedGradient } from "./attention_backward.ts";
import { type Heads, isAligned, padDispatch, paddedShape } from "./attention_pad.ts";
import { finalPart, LOG2_E, maskPart, vec4Part } from "./attention_parts.ts";
import { attentionRagged } from "./attention_ragged.ts";
import {
  type AttentionSpec,
  checkHeads,
  checkOptions,
  checkSizes,
  headStrides,
  headsShape,
  SPEC_OPTIONS,
  scaleOf,
  softcapOf,
  valueDimOf,
} from "./attention_spec.ts";
import { type Addends, addendsOf, checkModifiers, linkModifiers, splitMask } from "./attention_table.ts";
import { attentionUnfused, unfusedGradients } from "./attention_unfused.ts";
import { type Inputs, type LowerContext, type OpDef, type OpNode, type Recorder, shader, type Value } from "./op.ts";
import { relativeBias, relativeStrides } from "./relative_bias.ts";

export { attentionQueryTile } from "./attention_kernels.ts";
export { attentionDecodePaged, attentionPaged } from "./attention_paged.ts";

/** What {@link attention} takes beyond q, k and v. */
export interface AttentionOptions extends AttentionSpec {
  /** `[B + 1]`: a ragged batch, whose sequence b has the queries from `queryOffsets[b]` to the next offset; `batch` is 1. */
  readonly queryOffsets?: readonly number[];
  /** `[B + 1]`: the same of the keys. Default: `queryOffsets`. */
  readonly keyOffsets?: readonly number[];
  /** Also return the log-sum-exp of each row. */
  readonly keep?: "lse";
  /** Overrules the choice of kernel, for tests and tuning. */
  readonly kernel?: AttentionKernel;
}

interface AttentionAttrs extends FusedAttrs {
  readonly kernel?: AttentionKernel;
  readonly keep?: "lse";
}

const HEADS = shader("lib/attention_heads.wgsl", headsCode);
const DENSE = shader("lib/attention_dense.wgsl", denseCode);
const LSE = shader("lib/attention_lse.wgsl", lseCode);
const NO_LSE = shader("lib/attention_lse_none.wgsl", noLseCode);

/** Most splits of the keys of one row: two to four times the cores of common GPUs, over the heads of one sequence. */
const DECODE_SPLITS = 16;
/** Workgroups of one sequence that keep the cores of a CPU adapter busy: its key heads, and splits where they are fewer. */
const SOFTWARE_SHARES = 8;

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
    lowerAttention(node, context);
  },
  backward(rec, { inputs, outputs, attrs }, [dout, dlse], needs): Record<string, Value> {
    if (dlse) {
      throw new HeedError("UNSUPPORTED", "attention: lse has no gradient. Compute the loss from out.");
    }
    if (!dout) return {};
    if (!hasFusedGradient(inputs, needs)) return unfusedGradients(rec, attrs, inputs, dout, needs);
    // A call that did not keep its lse runs once more.
    const [out, lse] = outputs[1] ? outputs : rec.record(ATTENTION, inputs, { ...attrs, keep: "lse" });
    return fusedGradients(rec, attrs, { ...inputs, out, lse, dout }, needs);
  },
};

/**
 * `out = softmax(mask(scale · q kᵀ)) v` in one kernel: memory O(T·D), key tiles that the mask rules out are not visited.
 *
 * layout "bhtd": q `[B, H, T, D]`, k `[B, Hkv, S, D]`, v `[B, Hkv, S, Dv]` → out `[B, H, T, Dv]`. layout "rows": q `[B·T, H·D]`,
 * k `[B·S, Hkv·D]`, v `[B·S, Hkv·Dv]` → out `[B·T, H·Dv]`; each may be columns of a wider matrix. f32 or f16, all three
 * alike; sums and out are f32. `lse` `[B, H, T]` (natural log) with `keep: "lse"`. A row with no kept key: out 0, lse −1e30.
 * With `queryOffsets` the tokens of q, k and v are those of several sequences (see {@link attentionRagged}).
 * Throws `SHAPE`, `USAGE` or `UNSUPPORTED` before anything is recorded.
 * Source: Dao, "FlashAttention-2" (2023), §3.1, Alg. 1; grouped heads: Ainslie et al., "GQA" (2023), §2.2.
 */
export function attention(
  rec: Recorder,
  { q, k, v }: { q: Value; k: Value; v: Value },
  options: AttentionOptions,
): { out: Value; lse?: Value } {
  checkOptions("attention", options, [...SPEC_OPTIONS, "queryOffsets", "keyOffsets", "keep", "kernel"]);
  if (options.queryOffsets || options.keyOffsets) return attentionRagged(rec, { q, k, v }, options, attention);
  if (options.keyLength === 0) {
    throw shapeError("attention", "S must be at least 1", [formatOptional("q", q), formatOptional("k", k)].join(", "));
  }
  const { keep, kernel, ...spec } = options;
  if (keep !== undefined && keep !== "lse") {
    throw new HeedError("UNSUPPORTED", `attention: keep must be "lse" or left out; got "${String(keep)}".`);
  }
  if (isUnfused(spec)) {
    if (kernel !== undefined) {
      const what = "selection: hard, dropout, and bias, mask and relativeBias together, take the three kernels";
      throw new HeedError("UNSUPPORTED", `attention: ${what}; got kernel "${kernel}". Leave kernel out.`);
    }
    const { out, lse } = attentionUnfused(rec, { q, k, v }, spec);
    return { out, lse: keep && lse };
  }
  const { batch, heads, kvHeads, headDim, valueDim, queryLength, keyLength, layout, scale, softcap } = spec;
  const { numbers, values } = splitMask(spec);
  const sizes = { batch, heads, kvHeads, headDim, valueDim, queryLength, keyLength, layout };
  const attrs = { ...sizes, scale, softcap, kernel, keep, ...numbers };
  const { alibiSlopes, sinks, bias, mask, queryStart } = spec;
  const relative = spec.relativeBias && relativeBias(rec, spec.relativeBias, { ...sizes, queryStart });
  const [out, lse] = rec.record(ATTENTION, { q, k, v, ...values, alibiSlopes, sinks, bias, mask, relative }, attrs);
  invariant(out, "attention returned no output");
  return { out, lse };
}

/** True if only the three kernels know this specification. */
function isUnfused({ bias, relativeBias: relative, mask, selection = "soft", dropout }: AttentionSpec): boolean {
  return selection !== "soft" || dropout !== undefined || Boolean(bias && mask && relative);
}

function checkInputs(inputs: Inputs, attrs: AttentionAttrs): void {
  const { q, k, v } = inputs;
  checkSizes("attention", attrs, [formatOptional("q", q), formatOptional("k", k)].join(", "));
  checkKernel("attention", attrs.kernel, Math.max(attrs.headDim, valueDimOf(attrs)));
  const { layout, batch, heads, kvHeads, headDim, queryLength, keyLength } = attrs;
  checkHeads("attention", "q", q, { layout, batch, heads, length: queryLength, dim: headDim });
  checkHeads("attention", "k", k, { layout, batch, heads: kvHeads, length: keyLength, dim: headDim });
  checkHeads("attention", "v", v, { layout, batch, heads: kvHeads, length: keyLength, dim: valueDimOf(attrs) });
  if (q.dtype !== k.dtype || q.dtype !== v.dtype) {
    throw shapeError(
      "attention",
      "q, k and v must have one dtype",
      [formatTensor("q", q), formatTensor("k", k), formatTensor("v", v)].join(", "),
    );
  }
  checkModifiers("attention", inputs, attrs, attrs);
  scaleOf("attention", attrs);
  softcapOf("attention", attrs.softcap);
  if (attrs.kernel === "decode" && !isInterval(inputs, attrs)) {
    const what = "the decode kernel takes lengths, windows and prefixes, no other change of scores, and no sinks";
    throw new HeedError("UNSUPPORTED", `attention: ${what}. Leave kernel out.`);
  }
}

function formatOptional(name: string, value: Value | undefined): string {
  return value ? formatTensor(name, value) : `no ${name}`;
}

/** q, k, v and out as tensors of heads. */
interface Operands {
  readonly q: Heads;
  readonly k: Heads;
  readonly v: Heads;
  readonly out: Heads;
}

function operandsOf({ inputs, outputs, attrs }: OpNode<AttentionAttrs>): Operands {
  const { heads, kvHeads, headDim, queryLength, keyLength, layout } = attrs;
  const of = (value: Value, count: number, length: number, width: number): Heads => {
    const sizes = { heads: count, length, dim: width };
    return { value, strides: headStrides(value, layout, sizes), ...sizes };
  };
  const { q, k, v } = inputs as { q: Value; k: Value; v: Value };
  const valueDim = valueDimOf(attrs);
  return {
    q: of(q, heads, queryLength, headDim),
    k: of(k, kvHeads, keyLength, headDim),
    v: of(v, kvHeads, keyLength, valueDim),
    out: of(outputs[0] as Value, heads, queryLength, valueDim),
  };
}

/** Copies whose sizes and places are multiples of four; out is copied back by the caller. */
function padOperands(operands: Operands, batch: number, { facts, temp, dispatch }: LowerContext): Operands {
  const padded = (name: keyof Operands): Heads => {
    const { heads, length } = operands[name];
    const { shape, strides } = paddedShape(batch, operands[name]);
    return { value: temp(name, shape, "f32"), strides, heads, length, dim: strides.row };
  };
  const copies = { q: padded("q"), k: padded("k"), v: padded("v"), out: padded("out") };
  for (const name of ["q", "k", "v"] as const) dispatch(padDispatch(operands[name], copies[name], facts));
  return copies;
}

/** Most splits of a row's keys where nothing was measured; it depends on nothing that a batch changes. */
function mostSplits({ software }: GpuFacts, kvHeads: number): number {
  return software ? ceilDiv(SOFTWARE_SHARES, kvHeads) : DECODE_SPLITS;
}

function lowerAttention(node: OpNode<AttentionAttrs>, context: LowerContext): void {
  const { facts, dispatch } = context;
  const { batch, heads, kvHeads, queryLength, keyLength, headDim } = node.attrs;
  const given = operandsOf(node);
  const operands = isAligned(given.q, given.k, given.v, given.out) ? given : padOperands(given, batch, context);
  const addressing = denseAddressing(node, operands, context);
  const valueDim = operands.out.dim;
  const width = Math.max(headDim, valueDim);
  const splits = !facts.fixedRows && isDecode(queryLength) && isInterval(node.inputs, node.attrs);
  const kernel =
    node.attrs.kernel ?? (splits ? "decode" : (chosenPrefill(facts, width) ?? prefillKernel(facts, width)));
  if (kernel === "decode") {
    const split = splitKeys(keyLength, chosenSplits(facts) ?? mostSplits(facts, kvHeads), 1);
    lowerDecode(context, addressing, {
      heads,
      kvHeads,
      valueDim,
      rows: batch * queryLength,
      ...split,
      longest: () => keyLength,
    });
  } else {
    const tileSize = tileSizeOf(kernel, facts);
    const workgroups = [ceilDiv(queryLength, tileSize), heads, batch] as const;
    dispatch(prefillDispatch(kernel, addressing, { facts, dim: width, tileSize, workgroups }));
  }
  if (operands !== given) dispatch(padDispatch(operands.out, given.out, facts));
}

/** The two tensors that a fused kernel has bindings for; a relative bias takes the one that is free. */
function fusedAddends(inputs: Inputs, { softcap, queryLength }: AttentionAttrs): Addends {
  const given = { ...addendsOf(inputs), isCapped: softcap !== undefined };
  const { relative } = inputs;
  if (!relative) return given;
  const addend = { value: relative, strides: relativeStrides(relative, queryLength) };
  return given.bias ? { ...given, mask: addend } : { ...given, bias: addend };
}

/** True if scores are scaled products and each row's mask is an interval: what the decode kernel knows. */
function isInterval({ alibiSlopes, sinks, bias, mask, relative }: Inputs, { softcap }: AttentionAttrs): boolean {
  return !(alibiSlopes || sinks || bias || mask || relative || softcap !== undefined);
}

/** The parts, bindings and params by which a kernel reads these operands. */
function denseAddressing(
  { inputs, outputs, attrs }: OpNode<AttentionAttrs>,
  { q, k, v, out }: Operands,
  context: LowerContext,
): Addressing {
  const modifiers = linkModifiers(context, "attention", inputs, attrs, attrs, fusedAddends(inputs, attrs));
  const lse = outputs[1];
  const params: Record<string, number> = {
    ...modifiers.params,
    heads: attrs.heads,
    group: attrs.heads / attrs.kvHeads,
    columns: ceilDiv(q.dim, 4),
    value_columns: ceilDiv(v.dim, 4),
    queries: attrs.queryLength,
    keys: attrs.keyLength,
    factor: scaleOf("attention", attrs) * (modifiers.isModified ? 1 : LOG2_E),
    softcap: softcapOf("attention", attrs.softcap),
    splits: 1,
    split_keys: attrs.keyLength,
  };
  for (const [name, { strides }] of Object.entries({ q, k, v, out })) {
    if (name !== "out") params[`${name}_offset`] = strides.offset / 4;
    params[`${name}_batch`] = strides.batch / 4;
    params[`${name}_head`] = strides.head / 4;
    params[`${name}_row`] = strides.row / 4;
  }
  return {
    parts: [
      maskPart(),
      modifiers.parts,
      finalPart(modifiers.isModified),
      { parts: [HEADS, DENSE, lse ? LSE : NO_LSE] },
      vec4Part(q.value.dtype as "f32" | "f16", context.facts),
    ],
    bindings: {
      ...{ q: q.value, k: k.value, v: v.value, out: out.value },
      ...modifiers.bindings,
      ...(lse ? { lse } : {}),
    },
    params,
  };
}
