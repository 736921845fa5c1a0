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

/** Which keys a query may attend to. Query i stands at key position `p = i + queryStart`. */
export interface AttentionMask {
  /** Keep keys j ≤ p. Default false. */
  readonly causal?: boolean;
  /** Keep keys j > p − window. Default: no window. */
  readonly window?: number;
  /** Key position of the first query. Default 0. */
  readonly queryStart?: number;
  /** `[B]` u32: keep keys j < keyLengths[b]. Default: all S keys. */
  readonly keyLengths?: Value;
}

/** The one specification that the fused op, the three kernels and their gradients share. */
export interface AttentionSpec extends AttentionSizes, AttentionMask {
  /** B. */
  readonly batch: number;
  /** T. */
  readonly queryLength: number;
  /** S. */
  readonly keyLength: number;
  readonly layout: AttentionLayout;
  /** Of q·k; default `1 / √D`. */
  readonly scale?: number;
}

/** Names of {@link AttentionSpec}'s fields. */
export const SPEC_OPTIONS: readonly string[] = [
  ...["heads", "kvHeads", "headDim", "valueDim", "batch", "queryLength", "keyLength", "layout", "scale"],
  ...["causal", "window", "queryStart", "keyLengths"],
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

/** The bounds that `shaders/lib/mask.wgsl` reads: keys from p − left to p + right are kept. Throws `USAGE`. */
export function maskBounds(
  op: string,
  { causal = false, window, queryStart = 0 }: AttentionMask,
): { left: number; right: number } {
  if (window !== undefined && !(Number.isInteger(window) && window >= 1 && window <= MAX_POSITION)) {
    throw new HeedError(
      "USAGE",
      `${op}: window must be a whole number of keys from 1; got ${window}. Leave it out for none.`,
    );
  }
  if (!(Number.isInteger(queryStart) && queryStart >= 0 && queryStart < MAX_POSITION)) {
    throw new HeedError("USAGE", `${op}: queryStart must be a key position from 0; got ${queryStart}.`);
  }
  return { left: window === undefined ? UNBOUNDED : window - 1, right: causal ? 0 : UNBOUNDED };
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
