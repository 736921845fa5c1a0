import { dim, formatTensor, numel, shapeError } from "../core/shape.ts";
import { only, type OpDef, type Recorder, type Value } from "./op.ts";
import { need } from "./rows.ts";

interface ShapeAttrs {
  readonly shape: readonly number[];
}

/** The same elements in the same order under another shape. */
const REGROUP: OpDef<ShapeAttrs> = {
  name: "group_rows",
  infer({ x }, { shape }) {
    const value = need({ x }, "x");
    if (value.dtype !== "f32" || value.view || numel(value.shape) !== numel(shape) || shape.some((d) => d < 1)) {
      const got = `${formatTensor("x", value)}${value.view ? " as a view" : ""} for [${shape.join(", ")}]`;
      throw shapeError("group_rows", "x must be whole, f32, and of as many elements as the groups", got);
    }
    const rowStride = numel(shape.slice(1));
    return [{ shape, dtype: "f32", view: { base: value, offset: 0, rowStride } }];
  },
  lower() {
    // A view: whoever reads it reads its base.
  },
  backward(rec, { inputs }, [dout]): Record<string, Value> {
    if (!dout) return {};
    return { x: only(rec.record(REGROUP, { x: dout }, { shape: need(inputs, "x").shape })) };
  },
};

/** Rows `[B·T, C]` f32 as `[B, T, C]`, a view: no memory, no dispatch. Throws `SHAPE` for a view, or rows that make no whole groups. */
export function groupRows(rec: Recorder, x: Value, groups: number): Value {
  const [rows, columns] = [dim(x.shape, 0), dim(x.shape, 1)];
  return only(rec.record(REGROUP, { x }, { shape: [groups, rows / groups, columns] }));
}
