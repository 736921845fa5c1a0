import backwardCode from "../../shaders/softmax_backward.wgsl";
import code from "../../shaders/softmax.wgsl";
import { formatTensor, numel, shapeError } from "../core/shape.ts";
import type { Shader } from "../gpu/compose.ts";
import { type LowerContext, only, type OpDef, type Recorder, shader, type Value } from "./op.ts";
import { need, rowReduction } from "./rows.ts";

const KERNEL = shader("softmax.wgsl", code);
const BACKWARD_KERNEL = shader("softmax_backward.wgsl", backwardCode);

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
  lower({ inputs, outputs, attrs }, context) {
    lowerRows(context, KERNEL, { x: need(inputs, "x"), out: only(outputs) }, attrs);
  },
  backward(rec, { outputs, attrs }, [dy]): Record<string, Value> {
    return dy ? { x: only(rec.record(SOFTMAX_BACKWARD, { y: only(outputs), dy }, attrs)) } : {};
  },
};

/** y, the softmax or its logarithm, and dy, of one shape → dx. */
const SOFTMAX_BACKWARD: OpDef<SoftmaxAttrs> = {
  name: "softmax_backward",
  infer: ({ y }) => [{ shape: need({ y }, "y").shape, dtype: "f32" }],
  lower({ inputs, outputs, attrs }, context) {
    lowerRows(context, BACKWARD_KERNEL, { y: need(inputs, "y"), dy: need(inputs, "dy"), dx: only(outputs) }, attrs);
  },
};

/** One dispatch over the rows that the axis makes of all bindings, which are of one shape. */
function lowerRows(
  { facts, dispatch }: LowerContext,
  kernel: Shader,
  bindings: Readonly<Record<string, Value>>,
  { axis, logarithm }: SoftmaxAttrs,
): void {
  const [{ shape } = { shape: [0] }] = Object.values(bindings);
  if (numel(shape) === 0) return;
  const at = axis < 0 ? axis + shape.length : axis;
  const columns = shape[at] as number;
  const rows = numel(shape) / columns;
  const { variant, workgroups } = rowReduction(facts, rows, columns);
  dispatch({
    kernel: { kernel, ...variant },
    bindings,
    params: { rows, columns, inner: numel(shape.slice(at + 1)), logarithm: logarithm ? 1 : 0 },
    workgroups,
  });
}

/** `softmax(x)` over one axis, or its logarithm; x f32 of any shape, no view → the same shape. Throws `SHAPE`. */
export function softmax(rec: Recorder, x: Value, attrs: SoftmaxAttrs): Value {
  return only(rec.record(SOFTMAX, { x }, attrs));
}
