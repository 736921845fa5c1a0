import { ceilDiv, formatTensor, numel, sameShape, shapeError } from "../core/shape.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { layoutIn, need } from "./rows.ts";
import code from "../../shaders/override.wgsl";

const KERNEL = shader("override.wgsl", code);

/** True for what holds for every row of x. */
function isRow({ shape }: Value, x: Value): boolean {
  return shape.length === 1 && shape[0] === x.shape.at(-1);
}

const OVERRIDE: OpDef<null> = {
  name: "override",
  infer({ x, factor, shift }) {
    const all = [x, factor, shift];
    const fits = (v: Value | undefined) => v?.dtype === "f32" && x && (sameShape(v.shape, x.shape) || isRow(v, x));
    if (
      x?.dtype !== "f32" ||
      !fits(factor) ||
      !fits(shift) ||
      (factor && shift && !sameShape(factor.shape, shift.shape))
    ) {
      const got = all.map((v) => (v ? formatTensor(v.name, v) : "nothing")).join(", ");
      throw shapeError("override", "x must be f32, factor and shift f32 of its shape or both of one row", got);
    }
    return [{ shape: x.shape, dtype: "f32" }];
  },
  lower({ inputs, outputs }, { dispatch }) {
    const x = need(inputs, "x");
    const columns = x.shape.at(-1) ?? 1;
    const { offset, rowStride } = layoutIn(x, 1);
    const [factor, shift] = [need(inputs, "factor"), need(inputs, "shift")];
    const period = Math.max(numel(factor.shape), 1);
    dispatch({
      kernel: { kernel: KERNEL },
      bindings: { x, factor, shift, out: only(outputs) },
      params: { rows: columns === 0 ? 0 : numel(x.shape) / columns, columns, offset, row_stride: rowStride, period },
      workgroups: spreadWorkgroups(ceilDiv(numel(x.shape), 64)),
    });
  },
};

/**
 * `out = factor · x + shift`, element by element, with 0 for factor 0 whatever x is: how taps replace, scale, add to and
 * switch off a value. It has no gradient.
 *
 * x f32 of any shape, or a view `[N, C]`; factor and shift of that shape, or `[C]` for every row → that shape. Throws `SHAPE`.
 */
export function override(rec: Recorder, x: Value, { factor, shift }: { factor: Value; shift: Value }): Value {
  return only(rec.record(OVERRIDE, { x, factor, shift }, null));
}
