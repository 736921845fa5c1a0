import code from "../../shaders/cast_f16.wgsl";
import { ceilDiv, formatTensor, numel, shapeError } from "../core/shape.ts";
import { only, type OpDef, type Recorder, rowLayout, shader, spreadWorkgroups, type Value } from "./op.ts";
import { need } from "./rows.ts";

const KERNEL = shader("cast_f16.wgsl", code);

export const CAST_F16: OpDef<null> = {
  name: "cast_f16",
  infer({ x }) {
    const odd = (x?.tensor?.parts ?? []).slice(0, -1).some(({ rows }) => (rows * numel(x?.shape.slice(1) ?? [])) % 2);
    if (x?.dtype !== "f32" || odd) {
      throw shapeError(
        "cast_f16",
        "x must be f32, its row parts of an even size",
        x ? formatTensor("x", x) : "nothing",
      );
    }
    return [{ shape: x.shape, dtype: "f16" }];
  },
  lower({ inputs, outputs }, context) {
    const x = need(inputs, "x");
    const columns = x.shape.at(-1) ?? 1;
    const rowSize = numel(x.shape.slice(1));
    const { offset, rowStride } = rowLayout(x);
    const parts = context.parts(x);
    parts.forEach(({ rowStart, rows }, part) => {
      const count = rows * rowSize;
      context.dispatch({
        kernel: { kernel: KERNEL },
        bindings: { x: parts.length === 1 ? x : { value: x, part }, out: only(outputs) },
        params: { count, columns, offset, row_stride: rowStride, out_offset: (rowStart * rowSize) / 2 },
        workgroups: spreadWorkgroups(ceilDiv(count, 2 * 64)),
      });
    });
  },
  // A gradient keeps its f32: what rounded it was the product that it comes from.
  backward: (_, __, [dout]): Record<string, Value> => (dout ? { x: dout } : {}),
};

/**
 * x in f16, for the products of mixed precision; what f16 can't hold becomes ±∞. x f32 of any shape, or a view of columns → the same shape
 * f16. The gradient passes as it is. Throws `SHAPE`.
 */
export function castF16(rec: Recorder, x: Value): Value {
  return only(rec.record(CAST_F16, { x }, null));
}
