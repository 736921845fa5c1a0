import { ceilDiv, formatTensor, numel, sameShape, shapeError } from "../core/shape.ts";
import { only, type OpDef, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { layoutIn, need } from "./rows.ts";
import code from "../../shaders/override.wgsl";

const KERNEL = shader("override.wgsl", code);

const OVERRIDE: OpDef<null> = {
  name: "override",
  infer({ x, factor, shift }) {
    const all = [x, factor, shift];
    if (!x || all.some((v) => v?.dtype !== "f32" || !sameShape(v.shape, x.shape))) {
      const got = all.map((v) => (v ? formatTensor(v.name, v) : "nothing")).join(", ");
      throw shapeError("override", "x, factor and shift must be f32 of one shape", got);
    }
    return [{ shape: x.shape, dtype: "f32" }];
  },
  lower({ inputs, outputs }, { dispatch }) {
    const x = need(inputs, "x");
    const columns = x.shape.at(-1) ?? 1;
    const { offset, rowStride } = layoutIn(x, 1);
    dispatch({
      kernel: { kernel: KERNEL },
      bindings: { x, factor: need(inputs, "factor"), shift: need(inputs, "shift"), out: only(outputs) },
      params: { rows: columns === 0 ? 0 : numel(x.shape) / columns, columns, offset, row_stride: rowStride },
      workgroups: spreadWorkgroups(ceilDiv(numel(x.shape), 64)),
    });
  },
};

/**
 * `out = factor · x + shift`, element by element, with 0 for factor 0 whatever x is: how taps replace, scale, add to and
 * switch off a value. It has no gradient.
 *
 * x f32 of any shape, or a view `[N, C]`; factor and shift of that shape → that shape. Throws `SHAPE`.
 */
export function override(rec: Recorder, x: Value, { factor, shift }: { factor: Value; shift: Value }): Value {
  return only(rec.record(OVERRIDE, { x, factor, shift }, null));
}
