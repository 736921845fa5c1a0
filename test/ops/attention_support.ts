import type { Device } from "../../src/gpu/device.ts";
import { attention, type AttentionOptions } from "../../src/ops/attention.ts";
import type { Value } from "../../src/ops/op.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { attention as reference } from "../../src/reference/attention.ts";
import { assertClose } from "../support/close.ts";
import { roundToFloat16, toFloat16Bits } from "../support/float16.ts";
import type { Random } from "../support/random.ts";
import { attentionTolerance } from "../support/tolerances.ts";

/** A drawn or named attention problem. */
export interface Problem {
  B: number;
  H: number;
  Hkv: number;
  T: number;
  S: number;
  D: number;
  Dv: number;
  causal?: boolean;
  window?: number;
  queryStart?: number;
  keyLengths?: number[];
  scale?: number;
  layout?: "bhtd" | "rows";
  dtype?: "f32" | "f16";
  /** Factor of q and k: large ones give large logits. */
  size?: number;
}

/** A problem with defaults. */
export function problem(given: Partial<Problem>): Problem {
  const { H = 2, T = 5, D = 8 } = given;
  return { B: 1, Hkv: H, S: T, Dv: D, ...given, H, T, D };
}

/** One line that names a problem. */
export function formatProblem(p: Problem): string {
  return Object.entries(p)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
}

/** Random q, k, v of a problem in `[B, H, T, D]` order, rounded to its dtype. */
export function draw(random: Random, p: Problem): { q: Float64Array; k: Float64Array; v: Float64Array } {
  const round = p.dtype === "f16" ? roundToFloat16 : (x: Float64Array) => x;
  const size = p.size ?? 1;
  return {
    q: round(random.normals(p.B * p.H * p.T * p.D, size)),
    k: round(random.normals(p.B * p.Hkv * p.S * p.D, size)),
    v: round(random.normals(p.B * p.Hkv * p.S * p.Dv)),
  };
}

/** `[B, H, T, D]` to rows `[B·T, H·D]`. */
export function toRows(x: Float64Array, B: number, H: number, T: number, D: number): Float64Array {
  return permute(x, [B, H, T, D], (b, h, t, d) => ((b * T + t) * H + h) * D + d);
}

/** Rows `[B·T, H·D]` to `[B, H, T, D]`. */
export function fromRows(x: ArrayLike<number>, B: number, H: number, T: number, D: number): Float64Array {
  return permute(x, [B, T, H, D], (b, t, h, d) => ((b * H + h) * T + t) * D + d);
}

function permute(
  x: ArrayLike<number>,
  [A, B, C, D]: [number, number, number, number],
  to: (a: number, b: number, c: number, d: number) => number,
): Float64Array {
  const out = new Float64Array(x.length);
  let at = 0;
  for (let a = 0; a < A; a++) {
    for (let b = 0; b < B; b++) {
      for (let c = 0; c < C; c++) for (let d = 0; d < D; d++) out[to(a, b, c, d)] = x[at++] as number;
    }
  }
  return out;
}

/** What the float64 reference gives. */
export function expected(p: Problem, { q, k, v }: { q: Float64Array; k: Float64Array; v: Float64Array }) {
  const { causal, window, queryStart, keyLengths, scale } = p;
  return reference(q, k, v, p, { causal, window, queryStart, keyLengths, scale });
}

/** Tolerance of `out` for a problem. */
export function outTolerance(p: Problem) {
  const size = p.size ?? 1;
  // f16 is rounded before both sides see it, and out is f32.
  return attentionTolerance("f32", {
    D: p.D,
    maxScore: 6 * size * size * Math.sqrt(p.D) * (p.scale ?? 1 / Math.sqrt(p.D)),
    maxValue: 4,
  });
}

/** The data of a tensor in a dtype. */
export function hostData(x: Float64Array, dtype: "f32" | "f16" = "f32"): Float32Array | Uint16Array {
  return dtype === "f16" ? toFloat16Bits(x) : Float32Array.from(x);
}

/** Options of the op for a problem. */
export function optionsOf(p: Problem): AttentionOptions {
  return {
    heads: p.H,
    kvHeads: p.Hkv,
    headDim: p.D,
    valueDim: p.Dv,
    batch: p.B,
    queryLength: p.T,
    keyLength: p.S,
    layout: p.layout ?? "bhtd",
    causal: p.causal,
    window: p.window,
    queryStart: p.queryStart,
    scale: p.scale,
  };
}

/** q, k, v as host tensors in the problem's layout and dtype, with key lengths if it has them. */
export function hostTensors(p: Problem, { q, k, v }: { q: Float64Array; k: Float64Array; v: Float64Array }) {
  const one = (x: Float64Array, heads: number, length: number, dim: number) =>
    p.layout === "rows"
      ? { shape: [p.B * length, heads * dim], data: hostData(toRows(x, p.B, heads, length, dim), p.dtype) }
      : { shape: [p.B, heads, length, dim], data: hostData(x, p.dtype) };
  return {
    q: one(q, p.H, p.T, p.D),
    k: one(k, p.Hkv, p.S, p.D),
    v: one(v, p.Hkv, p.S, p.Dv),
    ...(p.keyLengths ? { keyLengths: { shape: [p.B], data: Uint32Array.from(p.keyLengths) } } : {}),
  };
}

/** Runs the fused op on a problem and compares out and lse with the reference. */
export async function checkFused(
  device: Device,
  random: Random,
  p: Problem,
  kernel?: AttentionOptions["kernel"],
): Promise<void> {
  const data = draw(random, p);
  const result = await runOps(device, hostTensors(p, data), (rec, values): Record<string, Value> => {
    const { keyLengths } = values as { keyLengths?: typeof values.q };
    const { out, lse } = attention(rec, values, { ...optionsOf(p), keyLengths, keep: "lse", kernel });
    return lse ? { out, lse } : { out };
  });
  const want = expected(p, data);
  const context = `${formatProblem(p)}, kernel ${kernel}, seed ${random.seed}, tier ${device.facts.tier}`;
  const out =
    p.layout === "rows" ? fromRows(result.out as Float32Array, p.B, p.H, p.T, p.Dv) : (result.out as Float32Array);
  const tolerance = outTolerance(p);
  assertClose(out, want.out, { ...tolerance, label: "out", shape: [p.B, p.H, p.T, p.Dv], context });
  assertClose(result.lse as Float32Array, want.lse, {
    atol: tolerance.atol,
    rtol: 1e-5,
    label: "lse",
    shape: [p.B, p.H, p.T],
    context,
  });
}
