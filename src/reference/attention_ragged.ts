import {
  type AttentionGradients,
  type AttentionOptions,
  type AttentionResult,
  attention,
  attentionBackward,
} from "./attention.ts";
import { type AttentionDims, type Broadcast, ofSequence } from "./qk_scores.ts";

/** Sizes of a ragged batch: T and S are those of all sequences together. */
export interface RaggedDims extends Omit<AttentionDims, "B"> {
  /** `[B + 1]`, from 0 to T. */
  queryOffsets: readonly number[];
  /** `[B + 1]`, from 0 to S. */
  keyOffsets: readonly number[];
}

interface Piece {
  dims: AttentionDims;
  options: AttentionOptions;
  q: Float64Array;
  k: Float64Array;
  v: Float64Array;
  /** Of each element of `[H, T_b]` of this sequence: its row among all `[H, T]`. */
  rows: number[];
  /** The same of `[Hkv, S_b]` among `[Hkv, S]`. */
  keys: number[];
}

/** {@link attention} of sequences one after the other, each on its own: q `[H, T, D]`, k and v `[Hkv, S, ·]`; out `[H, T, Dv]`. */
export function attentionRagged(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  dims: RaggedDims,
  options: AttentionOptions = {},
): Pick<AttentionResult, "out" | "lse"> & { sequences: AttentionResult[] } {
  const { H, T, Dv } = dims;
  const [out, lse] = [new Float64Array(H * T * Dv), new Float64Array(H * T)];
  const sequences = pieces(q, k, v, dims, options).map((piece) => {
    const result = attention(piece.q, piece.k, piece.v, piece.dims, piece.options);
    scatter(out, result.out, piece.rows, Dv);
    scatter(lse, result.lse, piece.rows, 1);
    return result;
  });
  return { out, lse, sequences };
}

/** Gradients of {@link attentionRagged} in the layouts of its inputs. dout `[H, T, Dv]`. */
export function attentionRaggedBackward(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  dout: Float64Array,
  dims: RaggedDims,
  options: AttentionOptions = {},
): Pick<AttentionGradients, "dq" | "dk" | "dv" | "dsinks"> {
  const grads = {
    dq: new Float64Array(q.length),
    dk: new Float64Array(k.length),
    dv: new Float64Array(v.length),
    dsinks: new Float64Array(dims.H),
  };
  for (const piece of pieces(q, k, v, dims, options)) {
    const own = gather(dout, piece.rows, dims.Dv);
    const got = attentionBackward(piece.q, piece.k, piece.v, own, piece.dims, piece.options);
    scatter(grads.dq, got.dq, piece.rows, dims.D);
    scatter(grads.dk, got.dk, piece.keys, dims.D);
    scatter(grads.dv, got.dv, piece.keys, dims.Dv);
    got.dsinks.forEach((d, h) => {
      grads.dsinks[h] = grads.dsinks[h]! + d;
    });
  }
  return grads;
}

function pieces(
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  dims: RaggedDims,
  options: AttentionOptions,
): Piece[] {
  const { H, Hkv, T, S, D, Dv, queryOffsets, keyOffsets } = dims;
  return queryOffsets.slice(1).map((end, b) => {
    const [t0, s0] = [queryOffsets[b]!, keyOffsets[b]!];
    const [length, keyLength] = [end - t0, keyOffsets[b + 1]! - s0];
    const rows = placesOf(H, T, t0, length);
    const keys = placesOf(Hkv, S, s0, keyLength);
    const number = (x: number | ArrayLike<number> | undefined) => (x === undefined ? undefined : ofSequence(x, b));
    return {
      dims: { B: 1, H, Hkv, T: length, S: keyLength, D, Dv },
      options: {
        ...options,
        queryStart: number(options.queryStart),
        prefix: number(options.prefix),
        keyLengths: number(options.keyLengths),
        bias: corner(options.bias, b, length, keyLength),
        keep: corner(options.keep, b, length, keyLength),
      },
      q: gather(q, rows, D),
      k: gather(k, keys, D),
      v: gather(v, keys, Dv),
      rows,
      keys,
    };
  });
}

function placesOf(heads: number, total: number, start: number, length: number): number[] {
  return Array.from({ length: heads * length }, (_, i) => Math.floor(i / length) * total + start + (i % length));
}

/** The share of sequence b of a tensor for the longest sequence. */
function corner(given: Broadcast | undefined, b: number, T: number, S: number): Broadcast | undefined {
  if (!given) return undefined;
  const [B, H, allT, allS] = given.shape;
  const [t, s] = [allT === 1 ? 1 : T, allS === 1 ? 1 : S];
  const data = Array.from({ length: H * t * s }, (_, at) => {
    const [j, i, h] = [at % s, Math.floor(at / s) % t, Math.floor(at / s / t)];
    return given.data[(((b % B) * H + h) * allT + i) * allS + j]!;
  });
  return { data, shape: [1, H, t, s] };
}

function gather(x: Float64Array, rows: readonly number[], width: number): Float64Array {
  const out = new Float64Array(rows.length * width);
  rows.forEach((row, i) => {
    out.set(x.subarray(row * width, (row + 1) * width), i * width);
  });
  return out;
}

function scatter(to: Float64Array, x: Float64Array, rows: readonly number[], width: number): void {
  rows.forEach((row, i) => {
    to.set(x.subarray(i * width, (i + 1) * width), row * width);
  });
}
