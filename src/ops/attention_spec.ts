import { HeedError } from "../core/errors.ts";
import { formatTensor, sameShape, shapeError } from "../core/shape.ts";
import { rowLayout, type Value } from "./op.ts";

/** How q, k, v and out lie in memory: `[B, H, T, D]`, or rows of tokens `[B·T, H·D]` (columns of a wider matrix too). */
export type AttentionLayout = "bhtd" | "rows";

/** Sizes of attention. H is a multiple of Hkv; query head h reads key head `⌊h / (H / Hkv)⌋`. */
export interface AttentionSizes {
  /** H. */
  readonly heads: number;
  /** Hkv. */
  readonly kvHeads: number;
  /** D, 1 to 256. */
  readonly headDim: number;
  /** Dv, 1 to 256; default D. */
  readonly valueDim?: number;
}

/** A number for the whole batch, or `[B]` u32 with one for each sequence. */
export type PerSequence = number | Value;

/** Which keys a query may attend to; all of these combine. Query i stands at key position `p = i + queryStart`. */
export interface AttentionMask {
  /** Keep keys j ≤ p. Default false. */
  readonly causal?: boolean;
  /**
   * n: keep keys j > p − n. `{left, right}`: keep p − left ≤ j ≤ p + right, each unbounded where left out. Hides keys of the
   * prefix too. Default: no window.
   */
  readonly window?: number | { readonly left?: number; readonly right?: number };
  /** Key position of the first query. Default 0. */
  readonly queryStart?: PerSequence;
  /** With `causal`: keys j < prefix are kept for every query. Default 0. */
  readonly prefix?: PerSequence;
  /** Keep keys j < keyLengths. Default: all S keys. */
  readonly keyLengths?: PerSequence;
}

/** T5's relative position bias. */
export interface RelativeBias {
  /** `[buckets, H]` f32. */
  readonly weight: Value;
  /** Half of the buckets are for keys after the query; otherwise those share bucket 0. Default false. */
  readonly bidirectional?: boolean;
  /** Distances from this one on share a bucket. Default 128. */
  readonly maxDistance?: number;
}

/** What happens to a score between `scale · q·k` and the softmax, in this order: softcap, ALiBi, biases, masks. */
export interface AttentionScores {
  /** Of q·k; default `1 / √D`. */
  readonly scale?: number;
  /** `c · tanh(score / c)`, c > 0. Default: none. */
  readonly softcap?: number;
  /** `[H]` f32: adds `slope · (j − p)`. Has no gradient. Press et al., "Train Short, Test Long" (2022), §3. */
  readonly alibiSlopes?: Value;
  /** `[B|1, H|1, T|1, S|1]` f32, added to the scores; an entry ≤ −1e30, −Infinity too, masks. */
  readonly bias?: Value;
  /** Added as `bias` is. Raffel et al., "T5" (2020), §2.1. */
  readonly relativeBias?: RelativeBias;
  /** `[B|1, H|1, T|1, S|1]`: u32, not 0 where a key may be attended to; or f32, added as `bias` is. Has no gradient. */
  readonly mask?: Value;
}

/** What turns scores into weights. */
export interface AttentionWeights {
  /** `[H]` f32: one more logit a head, in the denominator only. */
  readonly sinks?: Value;
  /**
   * `hard`: the one-hot of the largest score, the first of equals (sinks take no part); its gradient is that of the soft
   * weights. Default `soft`.
   */
  readonly selection?: "soft" | "hard";
  /** Drops weights, the others times `1 / (1 − rate)`; rng `[3]` u32 as {@link dropout} takes it. */
  readonly dropout?: { readonly rate: number; readonly rng: Value };
}

/** The one specification that the fused op, the three kernels and their gradients share. */
export interface AttentionSpec extends AttentionSizes, AttentionMask, AttentionScores, AttentionWeights {
  /** B. */
  readonly batch: number;
  /** T. */
  readonly queryLength: number;
  /** S. */
  readonly keyLength: number;
  readonly layout: AttentionLayout;
}

/** Names of the fields that say how large q, k and v are. */
export const SIZE_OPTIONS: readonly string[] = [
  ...["heads", "kvHeads", "headDim", "valueDim", "batch", "queryLength", "keyLength", "layout"],
];

/** Names of {@link AttentionMask}'s fields. */
export const MASK_OPTIONS: readonly string[] = ["causal", "window", "queryStart", "prefix", "keyLengths"];

/** Names of {@link AttentionSpec}'s fields. */
export const SPEC_OPTIONS: readonly string[] = [
  ...SIZE_OPTIONS,
  ...MASK_OPTIONS,
  ...["scale", "softcap", "alibiSlopes", "bias", "relativeBias", "mask", "sinks", "selection", "dropout"],
];

/** No bound on one side of the mask: large enough for every position, small enough that no u32 sum of the shaders wraps. */
const UNBOUNDED = 0x7fffffff;
const MAX_POSITION = 2 ** 30;
const MAX_HEAD_DIM = 256;

/** Dv of a specification. */
export function valueDimOf({ headDim, valueDim = headDim }: AttentionSizes): number {
  return valueDim;
}

/** Throws `UNSUPPORTED` for an option that `op` does not know: none is ignored. */
export function checkOptions(op: string, options: object, known: readonly string[]): void {
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || known.includes(name)) continue;
    throw new HeedError("UNSUPPORTED", `${op}: there is no option "${name}"; known are ${known.join(", ")}.`);
  }
}

/** The bounds that `shaders/lib/mask.wgsl` reads from `Params`. Throws `USAGE`. */
export function maskBounds(
  op: string,
  { causal = false, window }: Pick<AttentionMask, "causal" | "window">,
): { left: number; right: number; ahead: number } {
  if (typeof window === "number" && !isCount(window, 1)) {
    throw new HeedError(
      "USAGE",
      `${op}: window must be a whole number of keys from 1; got ${window}. Leave it out for none.`,
    );
  }
  const { left, right } = typeof window === "object" ? window : { left: window && window - 1, right: undefined };
  for (const bound of [left, right]) {
    if (bound === undefined || isCount(bound, 0)) continue;
    throw new HeedError("USAGE", `${op}: window.left and window.right must be whole numbers from 0; got ${bound}.`);
  }
  return { left: left ?? UNBOUNDED, right: causal ? 0 : UNBOUNDED, ahead: right ?? UNBOUNDED };
}

function isCount(n: number, least: number): boolean {
  return Number.isInteger(n) && n >= least && n <= MAX_POSITION;
}

/** Throws `USAGE` unless `queryStart`, `prefix` and `keyLengths`, where numbers, are key positions from 0. */
export function checkPositions(op: string, { queryStart, prefix, keyLengths }: AttentionMask): void {
  for (const [name, value] of Object.entries({ queryStart, prefix, keyLengths })) {
    if (typeof value !== "number" || isCount(value, 0)) continue;
    throw new HeedError("USAGE", `${op}: ${name} must be a key position from 0; got ${value}.`);
  }
}

/** The soft cap that kernels take, 0 for none. Throws `USAGE` if it is not positive and finite. */
export function softcapOf(op: string, softcap: number | undefined): number {
  if (softcap === undefined) return 0;
  if (Number.isFinite(softcap) && softcap > 0) return softcap;
  throw new HeedError("USAGE", `${op}: softcap must be positive; got ${softcap}. Leave it out for none.`);
}

/** The scale of q·k. Throws `USAGE` if it is not finite. */
export function scaleOf(op: string, { scale, headDim }: { scale?: number; headDim: number }): number {
  const value = scale ?? 1 / Math.sqrt(headDim);
  if (!Number.isFinite(value)) throw new HeedError("USAGE", `${op}: scale must be finite; got ${value}.`);
  return value;
}

/** Throws `SHAPE` unless H is a multiple of Hkv and D and Dv are in range; `tensors` is what the message shows. */
export function checkSizes(op: string, sizes: AttentionSizes, tensors: string): void {
  const { heads, kvHeads, headDim } = sizes;
  if (!(kvHeads > 0 && heads > 0 && heads % kvHeads === 0)) {
    const mend = "Check num_key_value_heads in config.json.";
    throw shapeError(op, "H must be a multiple of Hkv", `${tensors}, H ${heads}, Hkv ${kvHeads}`, mend);
  }
  for (const [name, d] of [
    ["D", headDim],
    ["Dv", valueDimOf(sizes)],
  ] as const) {
    if (!(Number.isInteger(d) && d >= 1 && d <= MAX_HEAD_DIM)) {
      throw shapeError(op, `${name} must be from 1 to ${MAX_HEAD_DIM}`, `${tensors}, ${name} ${d}`);
    }
  }
}

/** Throws `SHAPE` unless `value` is `[B, heads, length, dim]`, or `[B·length, heads·dim]` for rows, in f32 or f16. */
export function checkHeads(
  op: string,
  name: string,
  value: Value | undefined,
  {
    layout,
    batch,
    heads,
    length,
    dim,
  }: { layout: AttentionLayout; batch: number; heads: number; length: number; dim: number },
): asserts value is Value {
  const shape = headsShape(layout, batch, heads, length, dim);
  if (value && sameShape(value.shape, shape) && (value.dtype === "f32" || value.dtype === "f16")) return;
  const letters = layout === "rows" ? "[B·T, H·D]" : "[B, H, T, D]";
  throw shapeError(
    op,
    `${name} must be ${letters} = [${shape.join(", ")}] f32 or f16`,
    value ? formatTensor(name, value) : "nothing",
    "Check the layout and the sizes in the options.",
  );
}

/** Shape of a tensor of heads in a layout. */
export function headsShape(
  layout: AttentionLayout,
  batch: number,
  heads: number,
  length: number,
  dim: number,
): number[] {
  return layout === "rows" ? [batch * length, heads * dim] : [batch, heads, length, dim];
}

/** Where element (b, h, t, 0) of a tensor is: `offset + b · batch + h · head + t · row`, in elements. */
export interface HeadStrides {
  readonly offset: number;
  readonly batch: number;
  readonly head: number;
  readonly row: number;
}

/** Strides of q, k, v or out in a layout; a view's offset and row stride are followed. */
export function headStrides(
  value: Value,
  layout: AttentionLayout,
  sizes: { heads: number; length: number; dim: number },
): HeadStrides {
  const { heads, length, dim } = sizes;
  if (layout === "bhtd") return { offset: 0, batch: heads * length * dim, head: length * dim, row: dim };
  const { offset, rowStride } = rowLayout(value);
  return { offset, batch: length * rowStride, head: dim, row: rowStride };
}
