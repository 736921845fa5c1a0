import { ceilDiv, formatTensor, shapeError } from "../core/shape.ts";
import {
  type Dispatch,
  only,
  type OpDef,
  type Recorder,
  rowLayout,
  shader,
  spreadWorkgroups,
  type Value,
} from "./op.ts";
import { layoutIn, need, rowsAndColumns } from "./rows.ts";
import code from "../../shaders/columns.wgsl";

const KERNEL = shader("columns.wgsl", code);

/** A range of columns. */
export interface SliceColumnsAttrs {
  readonly start: number;
  readonly count: number;
}

interface PlaceColumnsAttrs {
  readonly start: number;
  /** Width of the result. */
  readonly columns: number;
}

export const SLICE_COLUMNS: OpDef<SliceColumnsAttrs> = {
  name: "slice_columns",
  infer({ x }, { start, count }) {
    const { rows, columns } = rowsAndColumns("slice_columns", "x", x);
    const value = need({ x }, "x");
    if (!(start >= 0 && count > 0 && start + count <= columns)) {
      throw shapeError(
        "slice_columns",
        "0 ≤ start < start + count ≤ C",
        `${formatTensor("x", value)}, start ${start}, count ${count}`,
      );
    }
    const { base, offset, rowStride } = rowLayout(value);
    return [{ shape: [rows, count], dtype: "f32", view: { base, offset: offset + start, rowStride } }];
  },
  lower() {
    // A view: whoever reads it takes its offset and stride.
  },
  backward(rec, { inputs, attrs }, [dout]): Record<string, Value> {
    return dout ? { x: placeColumns(rec, dout, attrs.start, need(inputs, "x").shape[1] as number) } : {};
  },
};

export const PLACE_COLUMNS: OpDef<PlaceColumnsAttrs> = {
  name: "place_columns",
  infer({ x }, { start, columns }) {
    const got = rowsAndColumns("place_columns", "x", x);
    if (!(start >= 0 && start + got.columns <= columns)) {
      const values = `${formatTensor("x", need({ x }, "x"))}, start ${start}, columns ${columns}`;
      throw shapeError("place_columns", "0 ≤ start and start + C ≤ columns", values);
    }
    return [{ shape: [got.rows, columns], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs: { start, columns } }, { dispatch }) {
    dispatch(copyColumns(need(inputs, "x"), only(outputs), { start, span: columns, first: 0 }));
  },
  backward(rec, { inputs, attrs }, [dout]): Record<string, Value> {
    return dout ? { x: sliceColumns(rec, dout, attrs.start, need(inputs, "x").shape[1] as number) } : {};
  },
};

/** The dispatch that writes columns [first, first + span) of `out`: x from `start` of them on, else 0. */
export function copyColumns(x: Value, out: Value, to: { start: number; span: number; first: number }): Dispatch {
  const { rows, columns } = rowsAndColumns("columns", "x", x);
  const { offset, rowStride } = layoutIn(x, 1);
  return {
    kernel: { kernel: KERNEL },
    bindings: { x, out },
    params: {
      rows,
      span: to.span,
      start: to.start,
      count: columns,
      offset,
      row_stride: rowStride,
      out_first: to.first,
      out_columns: out.shape[1] as number,
    },
    workgroups: spreadWorkgroups(ceilDiv(rows * to.span, 64)),
  };
}

/** Columns [start, start + count) of x `[N, C]`, as a view: no memory, no dispatch → `[N, count]`. Throws `SHAPE`. */
export function sliceColumns(rec: Recorder, x: Value, start: number, count: number): Value {
  return only(rec.record(SLICE_COLUMNS, { x }, { start, count }));
}

/** The gradient of a slice: x `[N, C]` at columns [start, start + C) of `[N, columns]`, 0 elsewhere. Throws `SHAPE`. */
export function placeColumns(rec: Recorder, x: Value, start: number, columns: number): Value {
  return only(rec.record(PLACE_COLUMNS, { x }, { start, columns }));
}
