import { columnSums } from "./column_sums.ts";
import { checkGain, checkSameRows, normBackward, normForward } from "./norm_rows.ts";
import { only, type OpDef, type Recorder, shader, type Value } from "./op.ts";
import { need, rowsAndColumns } from "./rows.ts";
import backwardCode from "../../shaders/layer_norm_backward.wgsl";
import code from "../../shaders/layer_norm.wgsl";

const KERNEL = shader("layer_norm.wgsl", code);
const BACKWARD_KERNEL = shader("layer_norm_backward.wgsl", backwardCode);

/** How a row is normalised. */
export interface LayerNormAttrs {
  /** Added to the variance. */
  readonly eps: number;
}

export const LAYER_NORM: OpDef<LayerNormAttrs> = {
  name: "layer_norm",
  infer({ x, weight, bias }) {
    const { rows, columns } = rowsAndColumns("layer_norm", "x", x);
    checkGain("layer_norm", "weight", weight, columns);
    if (bias) checkGain("layer_norm", "bias", bias, columns);
    return [{ shape: [rows, columns], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, context) {
    const [x, weight, bias] = [need(inputs, "x"), need(inputs, "weight"), inputs["bias"]];
    context.dispatch({
      ...normForward(KERNEL, x, context.facts, { eps: attrs.eps, has_bias: bias ? 1 : 0 }),
      bindings: { x, weight, bias: bias ?? weight, out: only(outputs) },
    });
  },
  backward(rec, { inputs, attrs }, [dout], needs) {
    if (!dout) return {};
    const gradients: Record<string, Value> = {};
    if (needs.has("x") || needs.has("weight")) {
      const { x, weight } = inputs;
      const [dx, dscaled] = rec.record(LAYER_NORM_BACKWARD, { x, weight, dout }, attrs);
      if (needs.has("x") && dx) gradients["x"] = dx;
      if (needs.has("weight") && dscaled) gradients["weight"] = columnSums(rec, dscaled);
    }
    if (needs.has("bias")) gradients["bias"] = columnSums(rec, dout);
    return gradients;
  },
};

/** x, dout `[N, C]`, weight `[C]` → dx `[N, C]`, and `[N, C]` whose column sums are dweight. */
export const LAYER_NORM_BACKWARD: OpDef<LayerNormAttrs> = {
  name: "layer_norm_backward",
  infer({ x, weight, dout }) {
    const { rows, columns } = rowsAndColumns("layer_norm_backward", "x", x);
    checkGain("layer_norm_backward", "weight", weight, columns);
    checkSameRows("layer_norm_backward", x, dout);
    return [
      { shape: [rows, columns], dtype: "f32" },
      { shape: [rows, columns], dtype: "f32" },
    ];
  },
  lower({ inputs, outputs, attrs }, context) {
    const [x, weight, dout] = [need(inputs, "x"), need(inputs, "weight"), need(inputs, "dout")];
    const [dx, dscaled] = outputs as [Value, Value];
    context.dispatch({
      ...normBackward(BACKWARD_KERNEL, x, dout, context.facts, { eps: attrs.eps }),
      bindings: { x, weight, dout, dx, dscaled },
    });
  },
};

/**
 * `out = (x − mean) / √(var + eps) · weight + bias` of each row.
 *
 * x `[N, C]` f32, or a view; weight and bias `[C]` f32 → `[N, C]` f32. Throws `SHAPE`.
 * Source: Ba, Kiros and Hinton, "Layer Normalization" (2016), eq. 3–4.
 */
export function layerNorm(
  rec: Recorder,
  x: Value,
  weight: Value,
  bias: Value | undefined,
  options: LayerNormAttrs,
): Value {
  return only(rec.record(LAYER_NORM, { x, weight, bias }, options));
}
