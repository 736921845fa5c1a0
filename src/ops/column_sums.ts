import { ceilDiv } from "../core/shape.ts";
import { only, type OpDef, type Recorder, shader, type Value } from "./op.ts";
import { elemPart, layoutIn, rowsAndColumns } from "./rows.ts";
import code from "../../shaders/column_sums.wgsl";

const KERNEL = shader("column_sums.wgsl", code);
const COLUMNS_PER_WORKGROUP = 64;
/** Rows that one invocation adds: few enough that long columns are shared out, many enough that stages are few. */
const ROWS_PER_PART = 64;

export const COLUMN_SUMS: OpDef<Record<string, never>> = {
  name: "column_sums",
  infer({ x }) {
    const { columns } = rowsAndColumns("column_sums", "x", x);
    return [{ shape: [columns], dtype: "f32" }];
  },
  lower({ inputs, outputs }, context) {
    let from = inputs["x"] as Value;
    const { columns } = rowsAndColumns("column_sums", "x", from);
    for (let rows = from.shape[0] as number, stage = 0; ; stage++) {
      const parts = Math.max(1, ceilDiv(rows, ROWS_PER_PART));
      const last = parts === 1;
      const to = last ? (outputs[0] as Value) : context.temp(`parts${stage}`, [parts, columns], "f32");
      const layout = from.shape.length === 2 ? from : undefined;
      const elem = elemPart(columns, ...(layout ? Object.values(layoutIn(layout, 1)) : []));
      const { offset, rowStride } = layoutIn(from, elem.width);
      context.dispatch({
        kernel: { kernel: KERNEL, parts: [elem.part] },
        bindings: { x: from, out: to },
        params: { rows, columns: columns / elem.width, offset, row_stride: rowStride, rows_per_part: ROWS_PER_PART },
        workgroups: [ceilDiv(columns / elem.width, COLUMNS_PER_WORKGROUP), parts],
      });
      if (last) return;
      from = to;
      rows = parts;
    }
  },
};

/**
 * `out[c] = Σ_n x[n, c]`: the gradient of whatever was added to, or multiplied with, every row.
 *
 * x `[N, C]` f32, or a view → `[C]` f32. The order of the additions depends on N alone.
 */
export function columnSums(rec: Recorder, x: Value): Value {
  return only(rec.record(COLUMN_SUMS, { x }, {}));
}
