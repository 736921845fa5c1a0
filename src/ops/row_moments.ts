import code from "../../shaders/row_moments.wgsl";
import { invariant } from "../core/errors.ts";
import { normForward } from "./norm_rows.ts";
import { type OpDef, type Recorder, shader, type Value } from "./op.ts";
import { need, rowsAndColumns } from "./rows.ts";

const KERNEL = shader("row_moments.wgsl", code);

export const ROW_MOMENTS: OpDef<{ readonly eps: number }> = {
  name: "row_moments",
  infer({ x }) {
    const { rows } = rowsAndColumns("row_moments", "x", x);
    return [
      { shape: [rows], dtype: "f32" },
      { shape: [rows], dtype: "f32" },
    ];
  },
  lower({ inputs, outputs, attrs }, { facts, dispatch }) {
    const x = need(inputs, "x");
    const [mean, rstd] = outputs as [Value, Value];
    dispatch({ ...normForward(KERNEL, x, facts, { eps: attrs.eps }), bindings: { x, mean, rstd } });
  },
};

/** Mean and `1 / √(var + eps)` of each row, as layer norm uses them; x `[N, C]` f32, or a view → both `[N]` f32. Throws `SHAPE`. */
export function rowMoments(rec: Recorder, x: Value, options: { readonly eps: number }): { mean: Value; rstd: Value } {
  const [mean, rstd] = rec.record(ROW_MOMENTS, { x }, options);
  invariant(mean && rstd, "row_moments returned too few outputs");
  return { mean, rstd };
}
