import { ceilDiv, formatTensor, shapeError } from "../core/shape.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { layoutIn, need, rowsAndColumns } from "./rows.ts";
import rotateCode from "../../shaders/lib/rotate.wgsl";
import code from "../../shaders/rope.wgsl";

const KERNEL = shader("rope.wgsl", code);
/** Functions of one channel's rotation, which the fused kernels share. */
export const ROTATE_PART = shader("lib/rotate.wgsl", rotateCode);

/** Which channels turn. */
export interface RopeAttrs {
  /** Heads of a row. */
  readonly heads: number;
  /** Channels of a head. */
  readonly headDim: number;
  /** Channels of a head that turn, from its first; even. */
  readonly rotaryDim: number;
  /** Pairs are (2i, 2i + 1) rather than (i, i + rotaryDim/2). */
  readonly interleaved: boolean;
}

interface SignedAttrs extends RopeAttrs {
  /** 1, or −1 to turn back. */
  readonly sign: 1 | -1;
}

export const ROPE: OpDef<SignedAttrs> = {
  name: "rope",
  infer({ x, positions, table }, attrs) {
    const { rows, columns } = rowsAndColumns("rope", "x", x);
    checkHeads("rope", "x", need({ x }, "x"), attrs.heads, attrs);
    checkPositions("rope", positions, rows);
    checkRopeTable("rope", table, attrs);
    return [{ shape: [rows, columns], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { dispatch }) {
    const [x, positions, table] = [need(inputs, "x"), need(inputs, "positions"), need(inputs, "table")];
    const { rows, columns } = rowsAndColumns("rope", "x", x);
    const { offset, rowStride } = layoutIn(x, 1);
    dispatch({
      kernel: { kernel: KERNEL, parts: [ROTATE_PART] },
      bindings: { x, positions, cos_sin: table, out: only(outputs) },
      params: {
        rows,
        columns,
        offset,
        row_stride: rowStride,
        head_dim: attrs.headDim,
        rotary: attrs.rotaryDim,
        interleaved: attrs.interleaved ? 1 : 0,
        position_stride: positions.shape.length,
        max_positions: table.shape[0] as number,
        sign: attrs.sign,
      },
      workgroups: spreadWorkgroups(ceilDiv(rows * columns, 64)),
    });
  },
  backward(rec, { inputs, attrs }, [dout]): Record<string, Value> {
    if (!dout) return {};
    const sign = attrs.sign === 1 ? -1 : 1;
    return { x: only(rec.record(ROPE, { ...inputs, x: dout }, { ...attrs, sign })) };
  },
};

/** Throws `SHAPE` unless a value has `heads · headDim` columns and the rotated channels are even and within the head. */
export function checkHeads(
  op: string,
  name: string,
  value: Value,
  heads: number,
  attrs: Omit<RopeAttrs, "heads">,
): void {
  const { headDim, rotaryDim } = attrs;
  const got = `${formatTensor(name, value)}, heads ${heads}, headDim ${headDim}, rotaryDim ${rotaryDim}`;
  if (value.shape[1] !== heads * headDim) throw shapeError(op, `${name} must be [N, heads · headDim]`, got);
  if (rotaryDim % 2 !== 0 || rotaryDim > headDim)
    throw shapeError(op, "rotaryDim must be even and at most headDim", got);
}

/** Throws `SHAPE` unless positions are `[N]` u32 or a row table `[N, 2]` u32. */
export function checkPositions(op: string, positions: Value | undefined, rows: number): void {
  const shape = positions?.shape ?? [];
  if (positions?.dtype === "u32" && shape[0] === rows && (shape.length === 1 || (shape.length === 2 && shape[1] === 2)))
    return;
  const got = positions ? formatTensor("positions", positions) : "nothing";
  throw shapeError(op, `positions must be [N] u32 or a row table [N, 2] u32 with N = ${rows}`, got);
}

/** Throws `SHAPE` unless the table of angles is `[maxPositions, rotaryDim/2, 2]` f32. */
export function checkRopeTable(
  op: string,
  table: Value | undefined,
  { rotaryDim }: Pick<RopeAttrs, "rotaryDim">,
): void {
  const shape = table?.shape ?? [];
  if (table?.dtype === "f32" && shape.length === 3 && shape[1] === rotaryDim / 2 && shape[2] === 2 && shape[0] !== 0)
    return;
  const got = table ? formatTensor("table", table) : "nothing";
  throw shapeError(op, `table must be [maxPositions, ${rotaryDim / 2}, 2] f32`, got, "Make it with ropeTable().");
}

/** How angles follow from positions. */
export interface RopeTableOptions {
  /** Rows of the table: positions 0 … maxPositions − 1. */
  readonly maxPositions: number;
  /** `[rotaryDim / 2]`: radians per position. */
  readonly inverseFrequencies: ArrayLike<number>;
  /** Multiplies cosine and sine (YaRN's attention factor). Default 1. */
  readonly factor?: number;
}

/** `[maxPositions, rotaryDim/2, 2]` as (cos, sin), computed in float64 and rounded once. */
export function ropeTable({ maxPositions, inverseFrequencies, factor = 1 }: RopeTableOptions): Float32Array {
  const pairs = inverseFrequencies.length;
  const table = new Float32Array(maxPositions * pairs * 2);
  for (let p = 0; p < maxPositions; p++) {
    for (let i = 0; i < pairs; i++) {
      const angle = p * (inverseFrequencies[i] as number);
      table[(p * pairs + i) * 2] = Math.cos(angle) * factor;
      table[(p * pairs + i) * 2 + 1] = Math.sin(angle) * factor;
    }
  }
  return table;
}

/**
 * Rotary embedding: turns each pair (a, b) of a head's first `rotaryDim` channels by the angle φ of the row's position:
 * `a' = a cos φ − b sin φ`, `b' = b cos φ + a sin φ`.
 *
 * x `[N, heads · headDim]` f32, or a view; positions `[N]` u32 or a row table `[N, 2]` u32 (slot, position);
 * table from {@link ropeTable} → `[N, heads · headDim]` f32, 0 in inactive rows. Throws `SHAPE`. Positions past the table
 * take its last row: the host checks lengths against the context before anything is recorded.
 * Source: Su et al., "RoFormer" (2021), §3.2.2 and eq. 34.
 */
export function rope(rec: Recorder, x: Value, positions: Value, options: RopeAttrs & { readonly table: Value }): Value {
  const { table, ...attrs } = options;
  return only(rec.record(ROPE, { x, positions, table }, { ...attrs, sign: 1 }));
}
