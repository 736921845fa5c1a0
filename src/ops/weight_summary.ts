import code from "../../shaders/weight_summary.wgsl";
import { invariant } from "../core/errors.ts";
import { dim, formatTensor, numel, shapeError } from "../core/shape.ts";
import { type OpDef, type Recorder, shader, type Value } from "./op.ts";
import { need, rowReduction } from "./rows.ts";

/** What {@link weightSummary} takes. */
export interface WeightSummaryOptions {
  /** How many of the keys with the largest weights are listed, from 1 to 64. */
  readonly top: number;
}

/** What {@link weightSummary} returns. */
export interface WeightSummary {
  /** `[…, r, 3]` f32: entropy in nats, weight of the first key, mean distance in tokens. */
  readonly stats: Value;
  /** `[…, r, top]` u32; 0xffffffff where fewer keys have a weight. */
  readonly topKeys: Value;
  /** `[…, r, top]` f32 */
  readonly topWeights: Value;
}

/** Stands in `topKeys` where there are fewer keys than asked for. */
export const NO_KEY = 0xffffffff;

const KERNEL = shader("weight_summary.wgsl", code);
export const MAX_TOP_KEYS = 64;

const WEIGHT_SUMMARY: OpDef<WeightSummaryOptions> = {
  name: "weight_summary",
  infer({ weights, places }, { top }) {
    const rank = weights?.shape.length ?? 0;
    if (!weights || (rank !== 3 && rank !== 4) || weights.dtype !== "f32") {
      const got = weights ? formatTensor("weights", weights) : "nothing";
      throw shapeError("weight_summary", "weights must be [h, r, S] or [B, h, r, S] f32", got);
    }
    const rows = dim(weights.shape, -2);
    const batch = rank === 4 ? dim(weights.shape, 0) : 1;
    const fits = places?.shape[0] === batch * rows && (places.shape.length === 1 || places.shape[1] === 2);
    if (!fits || places.dtype !== "u32") {
      const got = places ? formatTensor("places", places) : "nothing";
      throw shapeError("weight_summary", `places must be [B·r] or [B·r, 2] u32 with B·r = ${batch * rows}`, got);
    }
    if (!(Number.isInteger(top) && top >= 1 && top <= MAX_TOP_KEYS)) {
      throw shapeError("weight_summary", `top must be a whole number from 1 to ${MAX_TOP_KEYS}`, String(top));
    }
    const rest = weights.shape.slice(0, -1);
    return [
      { shape: [...rest, 3], dtype: "f32" },
      { shape: [...rest, top], dtype: "u32" },
      { shape: [...rest, top], dtype: "f32" },
    ];
  },
  lower({ inputs, outputs, attrs: { top } }, { facts, dispatch }) {
    const [weights, places] = [need(inputs, "weights"), need(inputs, "places")];
    const [queries, keys] = [dim(weights.shape, -2), dim(weights.shape, -1)];
    const rows = numel(weights.shape.slice(0, -1));
    // [B, h, r]: the rows of one sequence.
    const batchRows = weights.shape.length === 4 ? dim(weights.shape, 1) * queries : rows;
    const [stats, topKeys, topWeights] = outputs as [Value, Value, Value];
    const { variant, workgroups } = rowReduction(facts, rows, keys);
    const stride = places.shape[1] ?? 1;
    dispatch({
      kernel: { kernel: KERNEL, ...variant },
      bindings: { weights, places, stats, top_keys: topKeys, top_weights: topWeights },
      params: { rows, keys, top, queries, batch_rows: batchRows, place_stride: stride, place_offset: stride - 1 },
      workgroups,
    });
  },
};

/**
 * What rows of attention weights look like, computed where they are: entropy, mass on the first key, mean distance
 * between query and key, and the keys with the largest weights.
 *
 * weights `[h, r, S]` f32, or `[B, h, r, S]`; places `[r]` u32 (positions) or `[r, 2]` u32 (slot, position), B times as many with a batch. It has no gradient. Throws `SHAPE`.
 */
export function weightSummary(
  rec: Recorder,
  inputs: { readonly weights: Value; readonly places: Value },
  options: WeightSummaryOptions,
): WeightSummary {
  const [stats, topKeys, topWeights] = rec.record(WEIGHT_SUMMARY, { ...inputs }, options);
  invariant(stats && topKeys && topWeights, "weight_summary returned too few outputs");
  return { stats, topKeys, topWeights };
}
