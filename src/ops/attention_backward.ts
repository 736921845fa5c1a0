import dkvCode from "../../shaders/attention_backward_dkv.wgsl";
import dqCode from "../../shaders/attention_backward_dq.wgsl";
import dotsCode from "../../shaders/attention_dots.wgsl";
import rowsCode from "../../shaders/attention_pack_rows.wgsl";
import blocksCode from "../../shaders/lib/attention_blocks.wgsl";
import gradientCode from "../../shaders/lib/attention_gradient.wgsl";
import headsCode from "../../shaders/lib/attention_heads.wgsl";
import { invariant } from "../core/errors.ts";
import { ceilDiv, numel } from "../core/shape.ts";
import { type Heads, isAligned, padDispatch, paddedShape } from "./attention_pad.ts";
import { blockPart, blockQueriesPart, finalPart, LOG2_E, link, maskPart, vec4Part } from "./attention_parts.ts";
import {
  type AttentionLayout,
  type AttentionSizes,
  headStrides,
  headsShape,
  scaleOf,
  softcapOf,
  valueDimOf,
} from "./attention_spec.ts";
import { type Addend, addendsOf, linkModifiers, type MaskNumbers, type ScoreSizes } from "./attention_table.ts";
import { sinksBackward } from "./masked_softmax.ts";
import {
  type Inputs,
  type LowerContext,
  only,
  type OpDef,
  type OpNode,
  type Recorder,
  shader,
  spreadWorkgroups,
  type Value,
} from "./op.ts";
import { relativeStrides } from "./relative_bias.ts";
import { need } from "./rows.ts";

/** What a fused call records: sizes and the numbers of its specification. */
export interface FusedAttrs extends AttentionSizes, MaskNumbers, ScoreSizes {
  readonly layout: AttentionLayout;
  readonly scale?: number;
  readonly softcap?: number;
}

const DQ = shader("attention_backward_dq.wgsl", dqCode);
const DKV = shader("attention_backward_dkv.wgsl", dkvCode);
const DOTS = shader("attention_dots.wgsl", dotsCode);
const PACK_ROWS = shader("attention_pack_rows.wgsl", rowsCode);
const HEADS = shader("lib/attention_heads.wgsl", headsCode);
const BLOCKS = shader("lib/attention_blocks.wgsl", blocksCode);
const GRADIENT = shader("lib/attention_gradient.wgsl", gradientCode);

/** Queries or keys of a workgroup: enough for a GPU's subgroups, few enough to fill the cores of a CPU. */
const GPU_SIZE = 64;
const SOFTWARE_SIZE = 16;

/** True if the fused gradient knows this call: one added or masking tensor at most, and no gradient of it. */
export function hasFusedGradient({ bias, mask, relative }: Inputs, needs: ReadonlySet<string>): boolean {
  if (["bias", "relative", "mask", "alibiSlopes"].some((name) => needs.has(name))) return false;
  return [bias, mask, relative].filter((value) => value !== undefined).length <= 1;
}

/**
 * Gradients of fused attention by name, memory O(T·D): weights are rebuilt from `lse`, no atomics.
 * `inputs`: q, k, v and the optional tensors of the call, out and lse of its forward pass, and dout `[B, H, T, Dv]` or rows.
 * Source: Dao, "FlashAttention-2" (2023), §3.1, Alg. 2.
 */
export function fusedGradients(
  rec: Recorder,
  attrs: FusedAttrs,
  inputs: Inputs,
  needs: ReadonlySet<string>,
): Record<string, Value> {
  const { out, lse, dout, sinks, ...rest } = inputs;
  const dots = only(rec.record(ATTENTION_DOTS, { out, dout }, attrs));
  const grads: Record<string, Value> = {};
  if (sinks && lse && needs.has("sinks")) grads["sinks"] = sinksBackward(rec, { sinks, lse, dots });
  if (!["q", "k", "v"].some((name) => needs.has(name))) return grads;
  // A sink changes lse and nothing else.
  const [q, k, v] = rec.record(ATTENTION_BACKWARD, { ...rest, dout, lse, dots }, attrs);
  invariant(q && k && v, "attentionBackward returned too few outputs");
  return { ...grads, q, k, v };
}

const ATTENTION_DOTS: OpDef<FusedAttrs> = {
  name: "attentionDots",
  infer: (_, { batch, heads, queryLength }) => [{ shape: [batch, heads, queryLength], dtype: "f32" }],
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const { batch, heads, queryLength, layout } = attrs;
    const sizes = { heads, length: queryLength, dim: valueDimOf(attrs) };
    const [out, dout] = [need(inputs, "out"), need(inputs, "dout")];
    const [to, from] = [headStrides(out, layout, sizes), headStrides(dout, layout, sizes)];
    const count = batch * heads * queryLength;
    dispatch({
      kernel: { kernel: DOTS },
      bindings: { out, dout, dots: only(outputs) },
      params: {
        ...{ count, heads, queries: queryLength, width: sizes.dim },
        ...{ out_batch: to.batch, out_head: to.head, out_row: to.row },
        ...{ dout_offset: from.offset, dout_batch: from.batch, dout_head: from.head, dout_row: from.row },
      },
      workgroups: spreadWorkgroups(ceilDiv(count, 64)),
    });
  },
};

const ATTENTION_BACKWARD: OpDef<FusedAttrs> = {
  name: "attentionBackward",
  infer(_, attrs) {
    const { layout, batch, heads, kvHeads, queryLength, keyLength, headDim } = attrs;
    const shape = (count: number, length: number, dim: number) => headsShape(layout, batch, count, length, dim);
    return [
      { shape: shape(heads, queryLength, headDim), dtype: "f32" },
      { shape: shape(kvHeads, keyLength, headDim), dtype: "f32" },
      { shape: shape(kvHeads, keyLength, valueDimOf(attrs)), dtype: "f32" },
    ];
  },
  lower(node, context) {
    if (node.outputs.every((out) => numel(out.shape) === 0)) return;
    lowerBackward(node, context);
  },
};

const READ = ["q", "k", "v", "dout"] as const;
const WRITTEN = ["dq", "dk", "dv"] as const;

type Operands = Record<(typeof READ)[number] | (typeof WRITTEN)[number], Heads>;

function operandsOf({ inputs, outputs, attrs }: OpNode<FusedAttrs>): Operands {
  const { heads, kvHeads, headDim, queryLength, keyLength, layout } = attrs;
  const of = (value: Value, side: "query" | "key", dim: number): Heads => {
    const sizes = side === "query" ? { heads, length: queryLength, dim } : { heads: kvHeads, length: keyLength, dim };
    return { value, strides: headStrides(value, layout, sizes), ...sizes };
  };
  const [dq, dk, dv] = outputs as [Value, Value, Value];
  const valueDim = valueDimOf(attrs);
  return {
    q: of(need(inputs, "q"), "query", headDim),
    k: of(need(inputs, "k"), "key", headDim),
    v: of(need(inputs, "v"), "key", valueDim),
    dout: of(need(inputs, "dout"), "query", valueDim),
    dq: of(dq, "query", headDim),
    dk: of(dk, "key", headDim),
    dv: of(dv, "key", valueDim),
  };
}

/** Copies whose sizes and places are multiples of four; gradients are copied back by the caller. */
function padOperands(given: Operands, batch: number, { facts, temp, dispatch }: LowerContext): Operands {
  const entries = [...READ, ...WRITTEN].map((name): [string, Heads] => {
    const { heads, length } = given[name];
    const { shape, strides } = paddedShape(batch, given[name]);
    return [name, { value: temp(name, shape, "f32"), strides, heads, length, dim: strides.row }];
  });
  const copies = Object.fromEntries(entries) as Operands;
  for (const name of READ) dispatch(padDispatch(given[name], copies[name], facts));
  return copies;
}

function lowerBackward(node: OpNode<FusedAttrs>, context: LowerContext): void {
  const { facts, dispatch } = context;
  const { batch, heads, kvHeads, queryLength, keyLength } = node.attrs;
  const given = operandsOf(node);
  const operands = isAligned(...Object.values(given)) ? given : padOperands(given, batch, context);
  const { parts, bindings, params } = backwardAddressing(node, operands, context);
  const size = facts.software ? SOFTWARE_SIZE : GPU_SIZE;
  const overrides = { WORKGROUP_SIZE: size };
  const { dq, dk, dv } = operands;
  dispatch({
    kernel: { ...link(DQ, ...parts, blockPart(facts)), overrides },
    bindings: { ...bindings, out: dq.value },
    params: { ...params, ...outParams("out", dq), ...outParams("dv", dv) },
    workgroups: [ceilDiv(queryLength, size), heads, batch],
  });
  dispatch({
    kernel: { ...link(DKV, ...parts, blockPart(facts), blockQueriesPart(facts)), overrides },
    bindings: { ...bindings, out: dk.value, dv: dv.value },
    params: { ...params, ...outParams("out", dk), ...outParams("dv", dv) },
    workgroups: [ceilDiv(keyLength, size), kvHeads, batch],
  });
  if (operands !== given) for (const name of WRITTEN) dispatch(padDispatch(operands[name], given[name], facts));
}

function outParams(name: string, { strides }: Heads): Record<string, number> {
  return {
    [`${name}_batch`]: strides.batch / 4,
    [`${name}_head`]: strides.head / 4,
    [`${name}_row`]: strides.row / 4,
  };
}

/** The one tensor that the kernels have a binding for, as a mask or an additive one. */
function addendOf(inputs: Inputs, queryLength: number): Addend | undefined {
  const { bias, mask } = addendsOf(inputs);
  const { relative } = inputs;
  return bias ?? mask ?? (relative && { value: relative, strides: relativeStrides(relative, queryLength) });
}

/** The parts, bindings and params that both kernels share; dispatches the packing of the table and of its rows. */
function backwardAddressing({ inputs, attrs }: OpNode<FusedAttrs>, operands: Operands, context: LowerContext) {
  const [lse, dots] = [need(inputs, "lse"), need(inputs, "dots")];
  const rows = numel(lse.shape);
  const { params: common, ...modifiers } = linkModifiers(context, "attentionBackward", inputs, attrs, attrs, {
    mask: addendOf(inputs, attrs.queryLength),
    isCapped: attrs.softcap !== undefined,
    only: "mask",
    extraWords: 2 * rows,
  });
  const { table } = modifiers.bindings;
  invariant(table, "attentionBackward has no table");
  context.dispatch({
    kernel: { kernel: PACK_ROWS },
    bindings: { lse, dots, table },
    params: { count: rows, offset: 3 * attrs.batch + 2 * attrs.heads },
    workgroups: spreadWorkgroups(ceilDiv(rows, 64)),
  });
  const scale = scaleOf("attentionBackward", attrs);
  const { q, k, v, dout } = operands;
  const params: Record<string, number> = {
    ...Object.fromEntries(Object.entries(common).filter(([name]) => !name.startsWith("bias_"))),
    ...{ heads: attrs.heads, group: attrs.heads / attrs.kvHeads },
    ...{ columns: ceilDiv(q.dim, 4), value_columns: ceilDiv(v.dim, 4) },
    ...{ queries: attrs.queryLength, keys: attrs.keyLength, scale },
    factor: modifiers.isModified ? scale : scale * LOG2_E,
    softcap: softcapOf("attentionBackward", attrs.softcap),
  };
  for (const [name, heads] of Object.entries({ q, k, v, dout })) {
    params[`${name}_offset`] = heads.strides.offset / 4;
    Object.assign(params, outParams(name, heads));
  }
  return {
    parts: [
      maskPart(),
      modifiers.parts,
      finalPart(modifiers.isModified),
      { parts: [HEADS, GRADIENT, BLOCKS] },
      vec4Part(q.value.dtype as "f32" | "f16", context.facts),
    ],
    bindings: { q: q.value, k: k.value, v: v.value, dout: dout.value, ...modifiers.bindings },
    params,
  };
}
