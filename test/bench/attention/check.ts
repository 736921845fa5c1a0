import { attentionBackward } from "../../../src/reference/attention.ts";
import {
  type BenchData,
  type BenchResult,
  type BenchShape,
  exchangeHeads,
  keyRange,
  type Runner,
} from "./contender.ts";

/** Right results differ from float64's by at most this; they are of the order of 1. */
const TOLERANCE = 1e-4;

/** What {@link checkResult} compares with; rows of out as `[head, query]`. */
export interface Expected {
  readonly rows: readonly { readonly at: number; readonly out: Float64Array }[];
  readonly grads?: readonly Float64Array[];
}

/** The largest difference of a result from float64's, and whether it is small enough to count. */
export interface Verdict {
  readonly worst: number;
  readonly isRight: boolean;
}

/** Float64 results: up to 16 query rows of every head, or all of dq, dk and dv. */
export function expect(shape: BenchShape, data: BenchData): Expected {
  const { T, B, H } = shape;
  if (shape.backward) return { rows: [], grads: expectGradients(shape, data) };
  const step = Math.max(1, Math.floor((T - 1) / 15));
  const rows = [];
  for (let head = 0; head < B * H; head++) {
    for (let t = T - 1; t >= 0; t -= step) rows.push({ at: head * T + t, out: expectRow(shape, data, head, t) });
  }
  return { rows };
}

function expectRow(shape: BenchShape, { q, k, v }: BenchData, head: number, t: number): Float64Array {
  const { H, Hkv, T, S, D } = shape;
  const [begin, end] = keyRange(shape, t);
  const keys = (Math.floor(head / H) * Hkv + Math.floor((head % H) / (H / Hkv))) * S * D;
  const scores = new Float64Array(end - begin);
  for (let j = begin; j < end; j++) {
    let sum = 0;
    for (let d = 0; d < D; d++) sum += q[(head * T + t) * D + d]! * k[keys + j * D + d]!;
    scores[j - begin] = sum / Math.sqrt(D);
  }
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = scores.map((s) => Math.exp(s - largest));
  const total = weights.reduce((a, b) => a + b, 0);
  const out = new Float64Array(D);
  for (let j = begin; j < end; j++) {
    const weight = weights[j - begin]! / total;
    for (let d = 0; d < D; d++) out[d]! += weight * v[keys + j * D + d]!;
  }
  return out;
}

function expectGradients(shape: BenchShape, { q, k, v, dout }: BenchData): Float64Array[] {
  const wide = (x: Float32Array) => Float64Array.from(x);
  const dims = { ...shape, Dv: shape.D };
  const options = { causal: shape.causal, queryStart: shape.S - shape.T, window: shape.window };
  const { dq, dk, dv } = attentionBackward(wide(q), wide(k), wide(v), wide(dout), dims, options);
  return [dq, dk, dv];
}

/** Holds a result against {@link expect}'s; what is not a number counts as infinitely wrong. */
export function checkResult(shape: BenchShape, expected: Expected, runner: Runner, result: BenchResult): Verdict {
  const { B, H, Hkv, T, S, D } = shape;
  const sizes = [
    [H, T],
    [Hkv, S],
    [Hkv, S],
  ] as const;
  const turned = result.map((x, i) =>
    runner.layout === "bthd" ? exchangeHeads(x, B, sizes[i]![1], sizes[i]![0], D) : x,
  );
  let worst = 0;
  const compare = (got: Float32Array | undefined, want: Float64Array) => {
    if (got?.length !== want.length) worst = Infinity;
    else for (let i = 0; i < want.length; i++) worst = worse(worst, Math.abs(got[i]! - want[i]!));
  };
  for (const { at, out } of expected.rows) compare(turned[0]?.subarray(at * D, (at + 1) * D), out);
  for (const [i, want] of (expected.grads ?? []).entries()) compare(turned[i], want);
  return { worst, isRight: worst <= TOLERANCE };
}

function worse(a: number, b: number): number {
  return Number.isNaN(b) ? Infinity : Math.max(a, b);
}
