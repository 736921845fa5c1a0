import { formatTensor, shapeError } from "../core/shape.ts";
import { columnSums } from "./column_sums.ts";
import { checkGain, checkSameRows, normBackward, normForward } from "./norm_rows.ts";
import { only, type OpDef, type Recorder, shader, type Value } from "./op.ts";
import { need, rowsAndColumns } from "./rows.ts";
import backwardCode from "../../shaders/rms_norm_backward.wgsl";
import code from "../../shaders/rms_norm.wgsl";

const KERNEL = shader("rms_norm.wgsl", code);
const BACKWARD_KERNEL = shader("rms_norm_backward.wgsl", backwardCode);

/** How a row is normalised. */
export interface RmsNormAttrs {
  /** Added to the mean square. */
  readonly eps: number;
  /** The gain is `1 + weight`, as Gemma stores it. Default false. */
  readonly plusOne?: boolean;
  /** Parts of a row that are normalised each by itself, with one gain `[C / heads]`. Default 1. */
  readonly heads?: number;
}

export const RMS_NORM: OpDef<RmsNormAttrs> = {
  name: "rms_norm",
  infer({ x, weight }, attrs) {
    const { rows, columns } = rowsAndColumns("rms_norm", "x", x);
    checkGain("rms_norm", "weight", weight, headColumns("rms_norm", x, attrs));
    return [{ shape: [rows, columns], dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs }, context) {
    const x = need(inputs, "x");
    context.dispatch({
      ...normForward(KERNEL, x, context.facts, kernelParams(attrs), attrs.heads),
      bindings: { x, weight: need(inputs, "weight"), out: only(outputs) },
    });
  },
  backward(rec, { inputs, attrs }, [dout], needs) {
    if (!dout) return {};
    const [dx, dscaled] = rec.record(RMS_NORM_BACKWARD, { x: inputs["x"], weight: inputs["weight"], dout }, attrs);
    return {
      ...(needs.has("x") && dx ? { x: dx } : {}),
      ...(needs.has("weight") && dscaled ? { weight: columnSums(rec, dscaled) } : {}),
    };
  },
};

/** x, dout `[N, C]`, weight `[C / heads]` → dx `[N, C]`, and `[N · heads, C / heads]` whose column sums are dweight. */
export const RMS_NORM_BACKWARD: OpDef<RmsNormAttrs> = {
  name: "rms_norm_backward",
  infer({ x, weight, dout }, attrs) {
    const { rows, columns } = rowsAndColumns("rms_norm_backward", "x", x);
    const width = headColumns("rms_norm_backward", x, attrs);
    checkGain("rms_norm_backward", "weight", weight, width);
    checkSameRows("rms_norm_backward", x, dout);
    return [
      { shape: [rows, columns], dtype: "f32" },
      { shape: [(rows * columns) / width, width], dtype: "f32" },
    ];
  },
  lower({ inputs, outputs, attrs }, context) {
    const [x, weight, dout] = [need(inputs, "x"), need(inputs, "weight"), need(inputs, "dout")];
    const [dx, dscaled] = outputs as [Value, Value];
    context.dispatch({
      ...normBackward(BACKWARD_KERNEL, x, dout, context.facts, kernelParams(attrs), attrs.heads),
      bindings: { x, weight, dout, dx, dscaled },
    });
  },
};

function kernelParams({ eps, plusOne, heads = 1 }: RmsNormAttrs): Readonly<Record<string, number>> {
  return { heads, eps, shift: plusOne ? 1 : 0 };
}

/** Columns of one head; throws `SHAPE` unless the heads divide the row. */
function headColumns(op: string, x: Value | undefined, { heads = 1 }: RmsNormAttrs): number {
  const { columns } = rowsAndColumns(op, "x", x);
  if (Number.isInteger(heads) && heads >= 1 && columns % heads === 0) return columns / heads;
  throw shapeError(op, "C must be a multiple of heads", `${formatTensor("x", need({ x }, "x"))}, heads ${heads}`);
}

/**
 * `out = x / √(mean(x²) + eps) · weight` of each row, or of each of its heads.
 *
 * x `[N, C]` f32, or a view; weight `[C / heads]` f32 → `[N, C]` f32. Throws `SHAPE`.
 * Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), eq. 4.
 */
export function rmsNorm(rec: Recorder, x: Value, weight: Value, options: RmsNormAttrs): Value {
  return only(rec.record(RMS_NORM, { x, weight }, options));
}
