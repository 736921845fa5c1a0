import { type RelativeOptions, relativeBucket } from "./relative_bias.ts";

/** The finite stand-in for −∞: a masked score, and the lse of a row with no kept key. */
export const MASKED = -1e30;

/** Sizes of attention; H is a multiple of Hkv. */
export interface AttentionDims {
  B: number;
  H: number;
  Hkv: number;
  T: number;
  S: number;
  D: number;
  /** Value width. */
  Dv: number;
}

/** Which keys a query may attend to. Query i stands at key position `p = i + queryStart`. */
export interface MaskOptions {
  /** Keep j ≤ p (or j < prefix). Default false. */
  causal?: boolean;
  /** Key position of the first query, for all or by sequence `[B]`. Default 0. */
  queryStart?: number | ArrayLike<number>;
  /** With `causal`: the first `prefix` keys are kept for every query. A number or `[B]`. Default 0. */
  prefix?: number | ArrayLike<number>;
  /** n: keep j > p − n; `{left, right}`: keep p − left ≤ j ≤ p + right. Hides prefix keys too. Default: no window. */
  window?: number | { left?: number; right?: number };
  /** Keep j < keyLengths, a number or `[B]`. Default: all S keys. */
  keyLengths?: number | ArrayLike<number>;
}

/** A `[B or 1, H or 1, T or 1, S or 1]` array that broadcasts to `[B, H, T, S]`. */
export interface Broadcast {
  data: ArrayLike<number>;
  shape: readonly [number, number, number, number];
}

/** How scores are made from q and k, in this order: scale, soft cap, ALiBi, bias, mask. */
export interface QkScoresOptions extends MaskOptions {
  /** Default `1 / √D`. */
  scale?: number;
  /** `c · tanh(x / c)` of the scaled scores. Default: none. */
  softcap?: number;
  /** `[H]`: adds `slope · (j − p)`. Press et al., "Train Short, Test Long" (2022), §3. */
  alibiSlopes?: ArrayLike<number>;
  /** Added to the scores; an entry ≤ −1e30 (or −∞) masks. */
  bias?: Broadcast;
  /** T5's relative position bias, weight `[buckets, H]`. */
  relative?: RelativeOptions & { weight: ArrayLike<number> };
  /** Non-zero where a key may be attended to. */
  keep?: Broadcast;
}

/** True if query i of batch b may attend to key j under the structural masks (not `bias`, not `keep`). */
export function isKept(b: number, i: number, j: number, options: MaskOptions): boolean {
  const { causal = false, queryStart = 0, prefix = 0, window, keyLengths = Number.POSITIVE_INFINITY } = options;
  const p = i + ofSequence(queryStart, b);
  if (causal && j > p && j >= ofSequence(prefix, b)) return false;
  if (typeof window === "number" && j <= p - window) return false;
  if (typeof window === "object" && (j < p - (window.left ?? p) || j > p + (window.right ?? j))) return false;
  return j < ofSequence(keyLengths, b);
}

/** The number of a sequence. */
export function ofSequence(x: number | ArrayLike<number>, b: number): number {
  return typeof x === "number" ? x : x[b]!;
}

/**
 * `scores[b, h, i, j] = softcap(scale · q[b, h, i] · k[b, g, j]) + alibi + bias`, −1e30 where masked; `g = ⌊h / (H / Hkv)⌋`.
 *
 * q `[B, H, T, D]`, k `[B, Hkv, S, D]` → `[B, H, T, S]`.
 */
export function qkScores(
  q: Float64Array,
  k: Float64Array,
  dims: AttentionDims,
  options: QkScoresOptions = {},
): Float64Array {
  const scores = new Float64Array(dims.B * dims.H * dims.T * dims.S);
  forEachScore(dims, (b, h, i, j, at) => {
    const p = i + ofSequence(options.queryStart ?? 0, b);
    const alibi = options.alibiSlopes ? options.alibiSlopes[h]! * (j - p) : 0;
    const { relative } = options;
    const relation = relative ? relative.weight[relativeBucket(j - p, relative) * dims.H + h]! : 0;
    const bias = options.bias ? broadcastAt(options.bias, b, h, i, j) : 0;
    const kept = isKept(b, i, j, options) && (!options.keep || broadcastAt(options.keep, b, h, i, j) !== 0);
    const score = cappedProduct(q, k, dims, options, b, h, i, j) + alibi + relation + bias;
    scores[at] = kept && bias > MASKED ? score : MASKED;
  });
  return scores;
}

/**
 * Gradients of {@link qkScores}: `dq = scale · (dscores ∘ cap') k`, `dk = scale · (dscores ∘ cap')ᵀ q`, with
 * `cap' = 1 − (capped / softcap)²`; `dscores` must be 0 where masked.
 *
 * dscores `[B, H, T, S]` → dq `[B, H, T, D]`, dk `[B, Hkv, S, D]` (summed over the query heads of a group).
 */
export function qkScoresBackward(
  q: Float64Array,
  k: Float64Array,
  dscores: Float64Array,
  dims: AttentionDims,
  options: QkScoresOptions = {},
): { dq: Float64Array; dk: Float64Array } {
  const { H, Hkv, T, S, D } = dims;
  const scale = options.scale ?? 1 / Math.sqrt(D);
  const dq = new Float64Array(q.length);
  const dk = new Float64Array(k.length);
  forEachScore(dims, (b, h, i, j, at) => {
    let g = dscores[at]! * scale;
    if (g === 0) return;
    if (options.softcap !== undefined) {
      g *= 1 - (cappedProduct(q, k, dims, options, b, h, i, j) / options.softcap) ** 2;
    }
    const iq = ((b * H + h) * T + i) * D;
    const ik = ((b * Hkv + Math.floor(h / (H / Hkv))) * S + j) * D;
    for (let d = 0; d < D; d++) {
      dq[iq + d] = dq[iq + d]! + g * k[ik + d]!;
      dk[ik + d] = dk[ik + d]! + g * q[iq + d]!;
    }
  });
  return { dq, dk };
}

/** The entry of a broadcast array at `[b, h, i, j]`. */
export function broadcastAt({ data, shape }: Broadcast, b: number, h: number, i: number, j: number): number {
  const [B, H, T, S] = shape;
  return data[(((b % B) * H + (h % H)) * T + (i % T)) * S + (j % S)]!;
}

/** Gradient of a broadcast bias: `dscores` summed over the axes that it repeats on. `[B, H, T, S]` → `shape`. */
export function biasBackward(dscores: Float64Array, dims: AttentionDims, shape: Broadcast["shape"]): Float64Array {
  const [B, H, T, S] = shape;
  const dbias = new Float64Array(B * H * T * S);
  forEachScore(dims, (b, h, i, j, at) => {
    const to = (((b % B) * H + (h % H)) * T + (i % T)) * S + (j % S);
    dbias[to] = dbias[to]! + dscores[at]!;
  });
  return dbias;
}

function cappedProduct(
  q: Float64Array,
  k: Float64Array,
  dims: AttentionDims,
  options: QkScoresOptions,
  b: number,
  h: number,
  i: number,
  j: number,
): number {
  const { H, Hkv, T, S, D } = dims;
  const iq = ((b * H + h) * T + i) * D;
  const ik = ((b * Hkv + Math.floor(h / (H / Hkv))) * S + j) * D;
  let dot = 0;
  for (let d = 0; d < D; d++) dot += q[iq + d]! * k[ik + d]!;
  const scaled = dot * (options.scale ?? 1 / Math.sqrt(D));
  return options.softcap === undefined ? scaled : options.softcap * Math.tanh(scaled / options.softcap);
}

function forEachScore(
  { B, H, T, S }: AttentionDims,
  visit: (b: number, h: number, i: number, j: number, at: number) => void,
): void {
  let at = 0;
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      for (let i = 0; i < T; i++) {
        for (let j = 0; j < S; j++) visit(b, h, i, j, at++);
      }
    }
  }
}
