import code from "../../shaders/whole_norm.wgsl";
import { checkGain } from "./norm_rows.ts";
import { only, type OpDef, type Recorder, shader, type Value } from "./op.ts";
import { need, rowsAndColumns } from "./rows.ts";

const KERNEL = shader("whole_norm.wgsl", code);

const WHOLE_NORM: OpDef<{ readonly eps: number }> = {
  name: "whole_norm",
  infer({ x, weight, bias }) {
    const { rows, columns } = rowsAndColumns("whole_norm", "x", x);
    checkGain("whole_norm", "weight", weight, columns);
    checkGain("whole_norm", "bias", bias, columns);
    return [{ shape: [rows, columns], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs: { eps } }, { dispatch }) {
    const [x, weight, bias] = [need(inputs, "x"), need(inputs, "weight"), need(inputs, "bias")];
    const { rows, columns } = rowsAndColumns("whole_norm", "x", x);
    if (rows * columns === 0) return;
    dispatch({
      kernel: { kernel: KERNEL },
      bindings: { x, weight, bias, out: only(outputs) },
      params: { rows, columns, eps },
      workgroups: [1],
    });
  },
};

/**
 * Group norm with one group over rows of channels: `out = (x − mean) / √(var + eps) · weight + bias`, mean and variance over
 * all rows and columns.
 *
 * x `[T, C]` f32, no view; weight and bias `[C]` f32 → `[T, C]` f32. It has no gradient. Throws `SHAPE`.
 * Source: Wu and He, "Group Normalization" (2018), eq. 1, 2 and 7.
 */
export function wholeNorm(
  rec: Recorder,
  x: Value,
  { weight, bias }: { readonly weight: Value; readonly bias: Value },
  { eps }: { readonly eps: number },
): Value {
  return only(rec.record(WHOLE_NORM, { x, weight, bias }, { eps }));
}
