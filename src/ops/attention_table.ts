import packCode from "../../shaders/attention_pack.wgsl";
import scoreCode from "../../shaders/lib/attention_score.wgsl";
import oneScoreCode from "../../shaders/lib/attention_score_one.wgsl";
import plainScoreCode from "../../shaders/lib/attention_score_plain.wgsl";
import tableCode from "../../shaders/lib/attention_table.wgsl";
import noTableCode from "../../shaders/lib/attention_table_none.wgsl";
import { ceilDiv, formatTensor, shapeError } from "../core/shape.ts";
import type { LinkedPart } from "./attention_parts.ts";
import { type AttentionMask, checkPositions, maskBounds } from "./attention_spec.ts";
import { type Inputs, type LowerContext, shader, type Value } from "./op.ts";

const PACK = shader("attention_pack.wgsl", packCode);
const TABLE = shader("lib/attention_table.wgsl", tableCode);
const NO_TABLE = shader("lib/attention_table_none.wgsl", noTableCode);
const SCORE = shader("lib/attention_score.wgsl", scoreCode);
const SCORE_ONE = shader("lib/attention_score_one.wgsl", oneScoreCode);
const PLAIN_SCORE = shader("lib/attention_score_plain.wgsl", plainScoreCode);

const BY_SEQUENCE = ["queryStart", "prefix", "keyLengths"] as const;
const BY_HEAD = ["alibiSlopes", "sinks"] as const;

/** {@link AttentionMask} as an op's attributes: what is a tensor is one of the op's inputs instead. */
export interface MaskNumbers extends Pick<AttentionMask, "causal" | "window"> {
  readonly queryStart?: number;
  readonly prefix?: number;
  readonly keyLengths?: number;
}

/** Sizes of scores. */
export interface ScoreSizes {
  readonly batch: number;
  readonly heads: number;
  readonly queryLength: number;
  readonly keyLength: number;
}

/** A mask's numbers and tensors, apart. */
export function splitMask({ causal, window, queryStart, prefix, keyLengths }: AttentionMask): {
  numbers: MaskNumbers;
  values: Record<"queryStart" | "prefix" | "keyLengths", Value | undefined>;
} {
  const number = (x: number | Value | undefined) => (typeof x === "number" ? x : undefined);
  const value = (x: number | Value | undefined) => (typeof x === "number" ? undefined : x);
  return {
    numbers: {
      causal,
      window,
      queryStart: number(queryStart),
      prefix: number(prefix),
      keyLengths: number(keyLengths),
    },
    values: { queryStart: value(queryStart), prefix: value(prefix), keyLengths: value(keyLengths) },
  };
}

/** Throws `SHAPE` or `USAGE` unless the mask and the tensors that change scores fit scores `[B, H, T, S]`. */
export function checkModifiers(op: string, inputs: Inputs, mask: MaskNumbers, sizes: ScoreSizes): void {
  const { batch, heads, queryLength, keyLength } = sizes;
  maskBounds(op, mask);
  checkPositions(op, mask);
  for (const name of BY_SEQUENCE) checkVector(op, name, inputs[name], "[B]", batch, "u32");
  for (const name of BY_HEAD) checkVector(op, name, inputs[name], "[H]", heads, "f32");
  for (const name of ["bias", "mask"] as const) {
    const value = inputs[name];
    if (!value) continue;
    const axes = [batch, heads, queryLength, keyLength];
    const fits = value.shape.length === 4 && value.shape.every((n, i) => n === 1 || n === axes[i]) && !value.view;
    if (fits && (value.dtype === "f32" || (name === "mask" && value.dtype === "u32"))) continue;
    const dtypes = name === "mask" ? "u32 (boolean) or f32 (additive)" : "f32";
    throw shapeError(
      op,
      `${name} must be [B|1, H|1, T|1, S|1] of [${axes.join(", ")}] in ${dtypes}`,
      formatTensor(name, value),
    );
  }
}

function checkVector(
  op: string,
  name: string,
  value: Value | undefined,
  letters: string,
  length: number,
  dtype: string,
): void {
  if (!value || (value.shape.length === 1 && value.shape[0] === length && value.dtype === dtype)) return;
  throw shapeError(op, `${name} must be ${letters} = [${length}] ${dtype}`, formatTensor(name, value));
}

/** How a broadcast tensor is read at (b, h, i, j): `offset + b · batch + h · head + i · query + j · key`, modulo 2³². */
export interface BroadcastStrides {
  readonly offset: number;
  readonly batch: number;
  readonly head: number;
  readonly query: number;
  readonly key: number;
}

/** Strides of a tensor `[B|1, H|1, T|1, S|1]`, 0 where it repeats. */
export function broadcastStrides({ shape }: Value): BroadcastStrides {
  const [B = 1, H = 1, T = 1, S = 1] = shape;
  return {
    offset: 0,
    batch: B > 1 ? H * T * S : 0,
    head: H > 1 ? T * S : 0,
    query: T > 1 ? S : 0,
    key: S > 1 ? 1 : 0,
  };
}

/** A broadcast tensor with its strides, which need not follow from its shape. */
export interface Addend {
  readonly value: Value;
  readonly strides: BroadcastStrides;
}

/** What scores pass through, as a kernel sees it. */
export interface Modifiers {
  readonly parts: LinkedPart;
  readonly bindings: Readonly<Record<string, Value>>;
  readonly params: Readonly<Record<string, number>>;
  /** Scores are more than scaled products: the kernel is linked with `attention_score.wgsl`. */
  readonly isModified: boolean;
}

/** What is added to scores; `isCapped`: a soft cap is all that the kernel must be linked for. */
export interface Addends {
  readonly bias?: Addend;
  readonly mask?: Addend;
  readonly isCapped?: boolean;
  /** The kernel has one binding for tensors; it always needs a table. */
  readonly only?: "mask";
  /** Words that the table has room for after its own. */
  readonly extraWords?: number;
}

const NOWHERE: BroadcastStrides = { offset: 0, batch: 0, head: 0, query: 0, key: 0 };

/** Links a kernel with what the mask and the modifiers of scores need, and dispatches the packing of their table. */
export function linkModifiers(
  context: LowerContext,
  op: string,
  inputs: Inputs,
  mask: MaskNumbers,
  sizes: ScoreSizes,
  { isCapped = false, only, extraWords = 0, ...addends }: Addends = addendsOf(inputs),
): Modifiers {
  const present = [...BY_SEQUENCE, ...BY_HEAD].flatMap((name) => inputs[name] ?? []);
  const isModified = Boolean(isCapped || addends.bias || addends.mask || inputs["alibiSlopes"]);
  const { queryStart = 0, prefix = 0, keyLengths = sizes.keyLength } = mask;
  const params = {
    ...maskBounds(op, mask),
    position: queryStart,
    prefix,
    length: Math.min(keyLengths, sizes.keyLength),
    batches: sizes.batch,
    bias_mode: addends.bias ? 1 : 0,
    mask_mode: addends.mask ? (addends.mask.value.dtype === "u32" ? 1 : 2) : 0,
    ...strideParams("bias", addends.bias),
    ...strideParams("mask", addends.mask),
  };
  const stand = present[0] ?? addends.bias?.value ?? addends.mask?.value ?? inputs["q"];
  if (!stand || (present.length === 0 && !isModified && !only)) {
    return { parts: { parts: [NO_TABLE, PLAIN_SCORE] }, bindings: {}, params, isModified };
  }
  const table = packTable(
    context,
    inputs,
    { start: queryStart, prefix, length: params.length },
    { ...sizes, extraWords },
    stand,
  );
  const score = only ? SCORE_ONE : SCORE;
  return {
    parts: { parts: [TABLE, isModified ? score : PLAIN_SCORE] },
    bindings: isModified
      ? { table, ...(only ? {} : { bias: addends.bias?.value ?? stand }), mask: addends.mask?.value ?? stand }
      : { table },
    params,
    isModified,
  };
}

/** The tensors given as `bias` and `mask`. */
export function addendsOf({ bias, mask }: Inputs): Addends {
  return {
    bias: bias && { value: bias, strides: broadcastStrides(bias) },
    mask: mask && { value: mask, strides: broadcastStrides(mask) },
  };
}

function strideParams(name: string, addend: Addend | undefined): Record<string, number> {
  const entries = Object.entries(addend?.strides ?? NOWHERE);
  return Object.fromEntries(entries.map(([axis, stride]) => [`${name}_${axis}`, stride >>> 0]));
}

function packTable(
  { temp, dispatch }: LowerContext,
  inputs: Inputs,
  numbers: { start: number; prefix: number; length: number },
  { batch, heads, extraWords }: ScoreSizes & { readonly extraWords: number },
  stand: Value,
): Value {
  const table = temp("table", [3 * batch + 2 * heads + extraWords], "u32");
  const { queryStart, prefix, keyLengths, alibiSlopes, sinks } = inputs;
  dispatch({
    kernel: { kernel: PACK },
    bindings: {
      starts: queryStart ?? stand,
      prefixes: prefix ?? stand,
      lengths: keyLengths ?? stand,
      slopes: alibiSlopes ?? stand,
      sinks: sinks ?? stand,
      table,
    },
    params: {
      ...{ batches: batch, heads, ...numbers },
      has_starts: queryStart ? 1 : 0,
      has_prefixes: prefix ? 1 : 0,
      has_lengths: keyLengths ? 1 : 0,
      has_slopes: alibiSlopes ? 1 : 0,
      has_sinks: sinks ? 1 : 0,
    },
    workgroups: [ceilDiv(Math.max(batch, heads), 64)],
  });
  return table;
}
