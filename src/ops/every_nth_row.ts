import code from "../../shaders/spread_rows.wgsl";
import { ceilDiv, dim, formatTensor, shapeError } from "../core/shape.ts";
import { only, type OpDef, type Recorder, rowLayout, shader, spreadWorkgroups, type Value } from "./op.ts";
import { layoutIn, need, rowsAndColumns } from "./rows.ts";

const KERNEL = shader("spread_rows.wgsl", code);

interface EveryAttrs {
  readonly every: number;
}

const EVERY_NTH_ROW: OpDef<EveryAttrs> = {
  name: "every_nth_row",
  infer({ x }, { every }) {
    const { rows, columns } = rowsAndColumns("every_nth_row", "x", x);
    if (!(Number.isInteger(every) && every >= 1 && rows % every === 0)) {
      const got = `${formatTensor("x", need({ x }, "x"))}, n ${every}`;
      throw shapeError("every_nth_row", "N must be a multiple of n", got);
    }
    const { base, offset, rowStride } = rowLayout(need({ x }, "x"));
    const view = { base, offset, rowStride: rowStride * every };
    return [{ shape: [rows / every, columns], dtype: "f32", view }];
  },
  lower() {
    // A view: whoever reads it takes its offset and stride.
  },
  backward(rec, { inputs, attrs }, [dout]): Record<string, Value> {
    if (!dout) return {};
    const rows = dim(need(inputs, "x").shape, 0);
    return { x: only(rec.record(SPREAD_ROWS, { x: dout }, { ...attrs, rows })) };
  },
};

/** x `[B, C]` → `[rows, C]`: row b of x at row b · every, 0 elsewhere. */
const SPREAD_ROWS: OpDef<EveryAttrs & { readonly rows: number }> = {
  name: "spread_rows",
  infer: ({ x }, { rows }) => [{ shape: [rows, rowsAndColumns("spread_rows", "x", x).columns], dtype: "f32" }],
  lower({ inputs, outputs, attrs: { every, rows } }, { dispatch }) {
    const x = need(inputs, "x");
    const { offset, rowStride } = layoutIn(x, 1);
    const columns = dim(x.shape, 1);
    dispatch({
      kernel: { kernel: KERNEL },
      bindings: { x, out: only(outputs) },
      params: { rows, columns, every, offset, row_stride: rowStride },
      workgroups: spreadWorkgroups(ceilDiv(rows * columns, 64)),
    });
  },
};

/** Rows 0, n, 2n, … of x `[B·n, C]` f32, or a view, as a view: no memory, no dispatch → `[B, C]`. Throws `SHAPE`. */
export function everyNthRow(rec: Recorder, x: Value, every: number): Value {
  return only(rec.record(EVERY_NTH_ROW, { x }, { every }));
}
