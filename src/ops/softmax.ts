import code from "../../shaders/softmax.wgsl";
import { formatTensor, numel, shapeError } from "../core/shape.ts";
import { only, type OpDef, type Recorder, shader, type Value } from "./op.ts";
import { need, rowReduction } from "./rows.ts";

const KERNEL = shader("softmax.wgsl", code);

/** Where and how the softmax is taken. */
export interface SoftmaxAttrs {
  /** The axis that sums to 1, counted from the end when negative. */
  readonly axis: number;
  /** Give the logarithm of it. Default false. */
  readonly logarithm?: boolean;
}

export const SOFTMAX: OpDef<SoftmaxAttrs> = {
  name: "softmax",
  infer({ x }, { axis }) {
    const rank = x?.shape.length ?? 0;
    if (x?.dtype !== "f32" || !Number.isInteger(axis) || axis < -rank || axis >= rank) {
      const got = x ? `${formatTensor("x", x)}, axis ${axis}` : "nothing";
      throw shapeError("softmax", "x must be f32 and axis one of its axes", got);
    }
    return [{ shape: x.shape, dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, { facts, dispatch }) {
    const x = need(inputs, "x");
    if (numel(x.shape) === 0) return;
    const at = attrs.axis < 0 ? attrs.axis + x.shape.length : attrs.axis;
    const columns = x.shape[at] as number;
    const rows = numel(x.shape) / columns;
    const { variant, workgroups } = rowReduction(facts, rows, columns);
    dispatch({
      kernel: { kernel: KERNEL, ...variant },
      bindings: { x, out: only(outputs) },
      params: { rows, columns, inner: numel(x.shape.slice(at + 1)), logarithm: attrs.logarithm ? 1 : 0 },
      workgroups,
    });
  },
};

/** `softmax(x)` over one axis, or its logarithm; x f32 of any shape, no view → the same shape. Throws `SHAPE`. */
export function softmax(rec: Recorder, x: Value, attrs: SoftmaxAttrs): Value {
  return only(rec.record(SOFTMAX, { x }, attrs));
}
