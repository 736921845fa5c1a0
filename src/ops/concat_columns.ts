import { formatTensor, shapeError } from "../core/shape.ts";
import { type Inputs, only, type OpDef, type Recorder, type Value } from "./op.ts";
import { rowsAndColumns } from "./rows.ts";
import { copyColumns, sliceColumns } from "./slice_columns.ts";

/** Inputs are called `x0`, `x1`, … in their order. */
export const CONCAT_COLUMNS: OpDef<Record<string, never>> = {
  name: "concat_columns",
  infer(inputs) {
    const values = inOrder(inputs);
    const sizes = values.map(([name, value]) => rowsAndColumns("concat_columns", name, value));
    const rows = sizes[0]?.rows;
    if (rows === undefined || sizes.some((s) => s.rows !== rows)) {
      const got = values.map(([name, value]) => formatTensor(name, value)).join(", ") || "nothing";
      throw shapeError("concat_columns", "inputs must be [N, Ci] with one N", got);
    }
    return [{ shape: [rows, sizes.reduce((sum, s) => sum + s.columns, 0)], dtype: "f32" }];
  },
  lower({ inputs, outputs }, { dispatch }) {
    let first = 0;
    for (const [, x] of inOrder(inputs)) {
      const span = x.shape[1] as number;
      dispatch(copyColumns(x, only(outputs), { start: 0, span, first }));
      first += span;
    }
  },
  backward(rec, { inputs }, [dout], needs) {
    const gradients: Record<string, Value> = {};
    let first = 0;
    for (const [name, x] of inOrder(inputs)) {
      const count = x.shape[1] as number;
      if (dout && needs.has(name)) gradients[name] = sliceColumns(rec, dout, first, count);
      first += count;
    }
    return gradients;
  },
};

function inOrder(inputs: Inputs): [string, Value][] {
  return Object.entries(inputs).filter((entry): entry is [string, Value] => entry[1] !== undefined);
}

/** Rows put beside each other: `[N, C0]`, `[N, C1]`, … f32, or views → `[N, C0 + C1 + …]`, contiguous. Throws `SHAPE`. */
export function concatColumns(rec: Recorder, values: readonly Value[]): Value {
  return only(rec.record(CONCAT_COLUMNS, Object.fromEntries(values.map((v, i) => [`x${i}`, v])), {}));
}
