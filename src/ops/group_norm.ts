import code from "../../shaders/group_norm.wgsl";
import { dim, formatTensor, numel, shapeError } from "../core/shape.ts";
import { checkGain } from "./norm_rows.ts";
import { only, type OpDef, type Recorder, shader, type Value } from "./op.ts";
import { need, rowReduction } from "./rows.ts";

const KERNEL = shader("group_norm.wgsl", code);

/** How a group of channels is normalised. */
export interface GroupNormAttrs {
  /** Groups; the channels are a multiple of it. */
  readonly groups: number;
  /** Added to the variance. */
  readonly eps: number;
}

export const GROUP_NORM: OpDef<GroupNormAttrs> = {
  name: "group_norm",
  infer({ x, weight, bias }, { groups }) {
    const channels = x?.shape[1] ?? 0;
    if (
      x?.dtype !== "f32" ||
      x.shape.length < 2 ||
      !(Number.isInteger(groups) && groups >= 1) ||
      channels % groups !== 0
    ) {
      const got = x ? `${formatTensor("x", x)}, groups ${groups}` : "nothing";
      throw shapeError("group_norm", "x must be [N, C, …] f32 with C a multiple of groups", got);
    }
    checkGain("group_norm", "weight", weight, channels);
    if (bias) checkGain("group_norm", "bias", bias, channels);
    return [{ shape: x.shape, dtype: "f32" }];
  },
  lower({ inputs, outputs, attrs: { groups, eps } }, { facts, dispatch }) {
    const [x, weight, bias] = [need(inputs, "x"), need(inputs, "weight"), inputs["bias"]];
    if (numel(x.shape) === 0) return;
    const rows = dim(x.shape, 0) * groups;
    const columns = numel(x.shape) / rows;
    const { variant, workgroups } = rowReduction(facts, rows, columns);
    dispatch({
      kernel: { kernel: KERNEL, ...variant },
      bindings: { x, weight, bias: bias ?? weight, out: only(outputs) },
      params: { rows, columns, inner: numel(x.shape.slice(2)), groups, has_bias: bias ? 1 : 0, width: columns, eps },
      workgroups,
    });
  },
};

/**
 * `out = (x − mean) / √(var + eps) · weight + bias`, mean and variance over each group of neighbouring channels.
 *
 * x `[N, C, …]` f32, no view; weight and bias `[C]` f32 → as x. Throws `SHAPE`.
 * Source: Wu and He, "Group Normalization" (2018), eq. 1, 2 and 7.
 */
export function groupNorm(
  rec: Recorder,
  x: Value,
  weight: Value,
  bias: Value | undefined,
  attrs: GroupNormAttrs,
): Value {
  return only(rec.record(GROUP_NORM, { x, weight, bias }, attrs));
}
