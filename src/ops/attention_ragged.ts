import { HeedError } from "../core/errors.ts";
import { formatTensor, shapeError } from "../core/shape.ts";
import type { AttentionOptions } from "./attention.ts";
import { type AttentionLayout, checkHeads, headStrides, headsShape, valueDimOf } from "./attention_spec.ts";
import { type Box, type BoxPlace, boxDispatch, takeBox, zeroDispatch } from "./copy_box.ts";
import { type OpDef, only, type Recorder, type Value } from "./op.ts";
import { need } from "./rows.ts";

/** Attention of one sequence, by whatever kernels suit it. */
type Attend = (
  rec: Recorder,
  qkv: { q: Value; k: Value; v: Value },
  options: AttentionOptions,
  sequence: number,
) => { out: Value; lse?: Value };

/** A range of tokens. */
interface Range {
  readonly start: number;
  readonly length: number;
  /** These tokens are another sequence's, and get nothing back. */
  readonly borrowed?: boolean;
}

/** One sequence of a ragged batch: its tokens among all queries and among all keys. */
export interface RaggedSequence {
  readonly queries: Range;
  readonly keys: Range;
}

interface PieceAttrs {
  readonly layout: AttentionLayout;
  readonly heads: number;
  /** Elements of a token's head. */
  readonly dim: number;
  /** Tokens of all sequences. */
  readonly total: number;
  /** Those that have a piece. */
  readonly ranges: readonly Range[];
  /** Of what {@link JOIN} returns. */
  readonly shape: readonly number[];
}

/**
 * The sequences of a ragged batch: query offsets `[B + 1]`, rising from 0 to T, and key offsets `[B + 1]`, rising from 0 to S
 * (default: the queries'). Throws `USAGE`.
 */
export function raggedSequences(
  { queryOffsets, keyOffsets }: Pick<AttentionOptions, "queryOffsets" | "keyOffsets">,
  { queryLength, keyLength }: { readonly queryLength: number; readonly keyLength: number },
): RaggedSequence[] {
  if (!queryOffsets) {
    throw new HeedError("USAGE", "attention: keyOffsets come with queryOffsets; got keyOffsets alone. Give both.");
  }
  const queries = rangesOf("queryOffsets", queryOffsets, "T", queryLength);
  const keys = rangesOf("keyOffsets", keyOffsets ?? queryOffsets, "S", keyLength);
  if (queries.length !== keys.length) {
    const got = `${queries.length + 1} and ${keys.length + 1}`;
    throw new HeedError(
      "USAGE",
      `attention: queryOffsets and keyOffsets must have B + 1 entries each; got ${got}. One entry a sequence, and the end.`,
    );
  }
  return queries.map((q, b) => ({ queries: q, keys: keys[b] as Range }));
}

function rangesOf(name: string, offsets: readonly number[], letter: string, total: number): Range[] {
  const rises = (n: number, i: number) => Number.isInteger(n) && n >= (offsets[i - 1] ?? 0);
  const isGood = Array.isArray(offsets) && offsets.length > 1 && offsets[0] === 0 && offsets.at(-1) === total;
  if (!isGood || !offsets.every(rises)) {
    const got = Array.isArray(offsets) ? `[${offsets.join(", ")}]` : String(offsets);
    throw new HeedError(
      "USAGE",
      `attention: ${name} must rise from 0 to ${letter} = ${total} in whole numbers, [B + 1] of them; got ${got}. Give the running sums of the lengths.`,
    );
  }
  return offsets.slice(1).map((end, b) => ({ start: offsets[b] as number, length: end - (offsets[b] as number) }));
}

/** x as heads of one sequence: `[1, heads, length, dim]` each, f32; the gradient joins what comes back. */
const SPLIT: OpDef<PieceAttrs> = {
  name: "split_sequences",
  infer: (_, { heads, dim, ranges }) => ranges.map(({ length }) => ({ shape: [1, heads, length, dim], dtype: "f32" })),
  lower({ inputs, outputs, attrs }, { facts, dispatch }) {
    const x = need(inputs, "x");
    attrs.ranges.forEach((range, i) => {
      const { size, whole, piece } = placesOf(x, attrs, range);
      dispatch(boxDispatch(facts, { x, out: outputs[i] as Value, size, from: whole, to: piece }));
    });
  },
  backward(rec, { inputs, attrs }, grads): Record<string, Value> {
    const given = attrs.ranges.flatMap((range, i) => {
      const grad = grads[i];
      return grad && !range.borrowed ? [{ range, grad }] : [];
    });
    const { shape } = need(inputs, "x");
    return {
      x: join(
        rec,
        given.map((g) => g.grad),
        { ...attrs, shape, ranges: given.map((g) => g.range) },
      ),
    };
  },
};

/** The pieces one after the other, in the layout asked for; tokens of no piece are 0. */
const JOIN: OpDef<PieceAttrs> = {
  name: "join_sequences",
  infer: (_, { shape }) => [{ shape, dtype: "f32" }],
  lower({ inputs, outputs, attrs }, { facts, dispatch }) {
    const out = only(outputs);
    if (attrs.ranges.reduce((sum, { length }) => sum + length, 0) < attrs.total) dispatch(zeroDispatch(out));
    attrs.ranges.forEach((range, i) => {
      const { size, whole, piece } = placesOf(out, attrs, range);
      dispatch(boxDispatch(facts, { x: need(inputs, String(i)), out, size, from: piece, to: whole }));
    });
  },
  backward(rec, { inputs, attrs }, [dout], needs): Record<string, Value> {
    if (!dout) return {};
    const pieces = rec.record(SPLIT, { x: dout }, attrs);
    const names = Object.keys(inputs).filter((name) => needs.has(name));
    return Object.fromEntries(names.map((name) => [name, pieces[Number(name)] as Value]));
  },
};

function join(rec: Recorder, pieces: readonly Value[], attrs: PieceAttrs): Value {
  return only(rec.record(JOIN, Object.fromEntries(pieces.map((piece, i) => [String(i), piece])), attrs));
}

/** Where the tokens of a range are in the whole tensor, and in a tensor of their own. */
function placesOf(
  value: Value,
  { layout, heads, dim, total }: PieceAttrs,
  { start, length }: Range,
): { size: Box; whole: BoxPlace; piece: BoxPlace } {
  const strides = headStrides(value, layout, { heads, length: total, dim });
  return {
    size: [1, heads, length, dim],
    whole: { offset: strides.offset + start * strides.row, strides: [0, strides.head, strides.row, 1] },
    piece: { offset: 0, strides: [0, length * dim, dim, 1] },
  };
}

/**
 * Attention of a ragged batch: sequences of any lengths one after the other, each attending to its own keys alone. q
 * `[1, H, ΣT, D]`, k and v `[1, Hkv, ΣS, ·]`, or rows of them. Each sequence runs as a call of its own would, bit for bit: memory is
 * O(ΣT + ΣS), no sequence is padded to the longest. Positions (queryStart, prefix, keyLengths) are a number or `[B]`; a bias or
 * mask is `[B|1, H|1, T|1, S|1]` of the longest sequence, from whose corner each takes its own. f16 is widened to f32.
 */
export function attentionRagged(
  rec: Recorder,
  { q, k, v }: { q: Value; k: Value; v: Value },
  options: AttentionOptions,
  attend: Attend,
): { out: Value; lse?: Value } {
  const { queryOffsets, keyOffsets, ...rest } = options;
  const { layout, heads, kvHeads, headDim, queryLength, keyLength } = rest;
  const sequences = raggedSequences({ queryOffsets, keyOffsets }, rest);
  const valueDim = valueDimOf(rest);
  if (rest.batch !== 1 || keyLength < 1) {
    throw shapeError("attention", "with queryOffsets, B must be 1 and S at least 1", `B ${rest.batch}, S ${keyLength}`);
  }
  checkHeads("attention", "q", q, { layout, batch: 1, heads, length: queryLength, dim: headDim });
  checkHeads("attention", "k", k, { layout, batch: 1, heads: kvHeads, length: keyLength, dim: headDim });
  checkHeads("attention", "v", v, { layout, batch: 1, heads: kvHeads, length: keyLength, dim: valueDim });
  if (q.dtype !== k.dtype || q.dtype !== v.dtype) {
    const got = [formatTensor("q", q), formatTensor("k", k), formatTensor("v", v)].join(", ");
    throw shapeError("attention", "q, k and v must have one dtype", got);
  }
  const attending = sequences.map((s, b) => ({ ...s, b })).filter(({ queries }) => queries.length > 0);
  // A sequence without keys borrows one, which its key length hides.
  const keysOf = attending.map(({ keys: { start, length } }): Range => {
    return length > 0 ? { start, length } : { start: Math.min(start, keyLength - 1), length: 1 };
  });
  const split = (x: Value, count: number, dim: number, total: number, ranges: readonly Range[]) =>
    ranges.length === 0 ? [] : rec.record(SPLIT, { x }, { layout, heads: count, dim, total, ranges, shape: [] });
  const queriesOf = attending.map((s) => s.queries);
  const [qs, ks, vs] = [
    split(q, heads, headDim, queryLength, queriesOf),
    split(k, kvHeads, headDim, keyLength, keysOf),
    split(v, kvHeads, valueDim, keyLength, keysOf),
  ];
  const results = attending.map(({ queries, keys, b }, i) => {
    const spec = sequenceOptions(rec, rest, { b, count: sequences.length, queries, keys });
    return attend(rec, { q: qs[i] as Value, k: ks[i] as Value, v: vs[i] as Value }, spec, b);
  });
  const joined = (pieces: readonly Value[], dim: number, to: AttentionLayout, shape: readonly number[]) =>
    join(rec, pieces, { layout: to, heads, dim, total: queryLength, ranges: queriesOf, shape });
  const outShape = headsShape(layout, 1, heads, queryLength, valueDim);
  const out = joined(
    results.map((r) => r.out),
    valueDim,
    layout,
    outShape,
  );
  if (rest.keep !== "lse") return { out };
  return {
    out,
    lse: joined(
      results.map((r) => r.lse as Value),
      1,
      "bhtd",
      [1, heads, queryLength],
    ),
  };
}

/** The options of one sequence alone. */
function sequenceOptions(
  rec: Recorder,
  options: AttentionOptions,
  { b, count, queries, keys }: RaggedSequence & { readonly b: number; readonly count: number },
): AttentionOptions {
  const number = (name: "queryStart" | "prefix" | "keyLengths") => {
    const given = options[name];
    if (typeof given !== "object") return given;
    if (given.shape.length !== 1 || given.shape[0] !== count || given.dtype !== "u32") {
      throw shapeError("attention", `${name} must be [B] = [${count}] u32`, formatTensor(name, given));
    }
    return takeBox(rec, given, { whole: [1, 1, 1, count], start: [0, 0, 0, b], size: [1, 1, 1, 1], shape: [1] });
  };
  const corner = (name: "bias" | "mask") => {
    const given = options[name];
    if (!given) return undefined;
    const [B = 0, H = 0, T = 0, S = 0] = given.shape;
    const fits =
      given.shape.length === 4 &&
      (B === 1 || B === count) &&
      (H === 1 || H === options.heads) &&
      (T === 1 || T >= queries.length) &&
      (S === 1 || S >= keys.length) &&
      (given.dtype === "f32" || (name === "mask" && given.dtype === "u32"));
    if (!fits) {
      const rule = `${name} must be [B|1, H|1, T|1, S|1] with T and S those of the longest sequence`;
      throw shapeError(
        "attention",
        rule,
        `${formatTensor(name, given)}, a sequence of ${queries.length} by ${keys.length}`,
      );
    }
    const size: Box = [1, H, T === 1 ? 1 : queries.length, S === 1 ? 1 : Math.max(1, keys.length)];
    return takeBox(rec, given, { whole: [B, H, T, S], start: [B === 1 ? 0 : b, 0, 0, 0], size, shape: size });
  };
  const keyLengths = keys.length > 0 ? number("keyLengths") : 0;
  return {
    ...options,
    layout: "bhtd",
    batch: 1,
    queryLength: queries.length,
    keyLength: Math.max(1, keys.length),
    ...{ queryStart: number("queryStart"), prefix: number("prefix"), keyLengths },
    ...{ bias: corner("bias"), mask: corner("mask") },
  };
}
