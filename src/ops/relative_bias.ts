import bucketCode from "../../shaders/lib/relative_bucket.wgsl";
import scoreCode from "../../shaders/attention_add.wgsl";
import backwardCode from "../../shaders/relative_bias_backward.wgsl";
import code from "../../shaders/relative_bias.wgsl";
import { HeedError } from "../core/errors.ts";
import { ceilDiv, dim, formatTensor, numel, shapeError } from "../core/shape.ts";
import type { PerSequence, RelativeBias } from "./attention_spec.ts";
import type { BroadcastStrides, ScoreSizes } from "./attention_table.ts";
import { diagonalSums } from "./masked_softmax.ts";
import { only, type OpDef, type OpNode, type Recorder, shader, spreadWorkgroups, type Value } from "./op.ts";
import { need } from "./rows.ts";

const FORWARD = shader("relative_bias.wgsl", code);
const BACKWARD = shader("relative_bias_backward.wgsl", backwardCode);
const ADD = shader("attention_add.wgsl", scoreCode);
const BUCKET = shader("lib/relative_bucket.wgsl", bucketCode);

interface RelativeAttrs extends ScoreSizes {
  readonly start: number;
  readonly buckets: number;
  readonly maxDistance: number;
  readonly bidirectional: boolean;
}

const RELATIVE_BIAS: OpDef<RelativeAttrs> = {
  name: "relativeBias",
  infer({ weight, starts }, attrs) {
    checkRelative(weight, attrs);
    return [{ shape: [starts ? attrs.batch : 1, attrs.heads, 1, distances(attrs)], dtype: "f32" }];
  },
  lower(node, { dispatch }) {
    const weight = need(node.inputs, "weight");
    const out = only(node.outputs);
    dispatch({
      kernel: { kernel: FORWARD, parts: [BUCKET] },
      bindings: { weight, starts: node.inputs["starts"] ?? weight, out },
      params: paramsOf(node),
      workgroups: spreadWorkgroups(ceilDiv(numel(out.shape), 64)),
    });
  },
  backward(rec, { inputs, attrs }, [dout]): Record<string, Value> {
    if (!dout) return {};
    return { weight: only(rec.record(RELATIVE_BIAS_BACKWARD, { dout, starts: inputs["starts"] }, attrs)) };
  },
};

const RELATIVE_BIAS_BACKWARD: OpDef<RelativeAttrs> = {
  name: "relativeBiasBackward",
  infer: (_, { buckets, heads }) => [{ shape: [buckets, heads], dtype: "f32" }],
  lower(node, { dispatch }) {
    const dout = need(node.inputs, "dout");
    const dweight = only(node.outputs);
    dispatch({
      kernel: { kernel: BACKWARD, parts: [BUCKET] },
      bindings: { dout, starts: node.inputs["starts"] ?? dout, dweight },
      params: paramsOf(node),
      workgroups: [ceilDiv(numel(dweight.shape), 64)],
    });
  },
};

const ATTENTION_ADD: OpDef<null> = {
  name: "attentionAdd",
  infer: ({ scores }) => [{ shape: need({ scores }, "scores").shape, dtype: "f32" }],
  lower({ inputs, outputs }, { dispatch }) {
    const [scores, relative] = [need(inputs, "scores"), need(inputs, "relative")];
    const out = only(outputs);
    const [batch, heads, queries, keys] = [0, 1, 2, 3].map((i) => dim(scores.shape, i)) as [
      number,
      number,
      number,
      number,
    ];
    dispatch({
      kernel: { kernel: ADD },
      bindings: { scores, relative, out },
      params: {
        count: batch * heads * queries * keys,
        heads,
        queries,
        keys,
        relative_batch: relativeStrides(relative).batch,
      },
      workgroups: spreadWorkgroups(ceilDiv(numel(out.shape), 64)),
    });
  },
  backward(rec, { inputs }, [dscores], needs): Record<string, Value> {
    if (!dscores) return {};
    if (!needs.has("relative")) return { scores: dscores };
    return { scores: dscores, relative: diagonalSums(rec, dscores, need(inputs, "relative").shape) };
  },
};

/**
 * T5's relative position bias as a row of distances: element r of `[B|1, H, 1, T + S − 1]` belongs to the scores of
 * query i and key j with j − i = r − (T − 1). O(T + S) memory; a batch axis only where queryStart has one.
 *
 * Gradient: weight. Throws `SHAPE` or `USAGE`. Source: Raffel et al., "T5" (2020), §2.1.
 */
export function relativeBias(
  rec: Recorder,
  { weight, bidirectional = false, maxDistance = 128 }: RelativeBias,
  { queryStart = 0, ...sizes }: ScoreSizes & { readonly queryStart?: PerSequence },
): Value {
  const { batch, heads, queryLength, keyLength } = sizes;
  const starts = typeof queryStart === "number" ? undefined : queryStart;
  return only(
    rec.record(
      RELATIVE_BIAS,
      { weight, starts },
      {
        ...{ batch, heads, queryLength, keyLength, bidirectional, maxDistance },
        start: typeof queryStart === "number" ? queryStart : 0,
        buckets: weight.shape[0] ?? 0,
      },
    ),
  );
}

/** `scores [B, H, T, S]` plus a {@link relativeBias}, as a tensor of its own: only where no attention kernel can read it. */
export function addRelativeBias(rec: Recorder, scores: Value, relative: Value): Value {
  return only(rec.record(ATTENTION_ADD, { scores, relative }, null));
}

/** How scores of T queries read a {@link relativeBias}: one element back for each query, one on for each key. */
export function relativeStrides({ shape }: Value, queryLength = 1): BroadcastStrides {
  const [batch = 1, heads = 1, , width = 1] = shape;
  return { offset: queryLength - 1, batch: batch > 1 ? heads * width : 0, head: width, query: -1, key: 1 };
}

function distances({ queryLength, keyLength }: ScoreSizes): number {
  return Math.max(queryLength + keyLength - 1, 0);
}

function paramsOf({ inputs, attrs }: OpNode<RelativeAttrs>): Record<string, number> {
  const { batch, heads, queryLength, start, buckets, maxDistance, bidirectional } = attrs;
  const starts = inputs["starts"];
  return {
    ...{ batches: starts ? batch : 1, heads, distances: distances(attrs), queries: queryLength, start, buckets },
    ...{ has_starts: starts ? 1 : 0, max_distance: maxDistance, bidirectional: bidirectional ? 1 : 0 },
  };
}

/** Throws `SHAPE` or `USAGE` unless the weight is `[buckets, H]` and its buckets fit the distances. */
export function checkRelative(
  weight: Value | undefined,
  {
    heads,
    buckets,
    maxDistance,
    bidirectional,
  }: Pick<RelativeAttrs, "heads" | "buckets" | "maxDistance" | "bidirectional">,
): void {
  if (weight?.shape.length !== 2 || weight.shape[1] !== heads || weight.dtype !== "f32" || weight.view) {
    const got = weight ? formatTensor("relativeBias.weight", weight) : "nothing";
    throw shapeError("relativeBias", `weight must be [buckets, H] = [buckets, ${heads}] f32`, got);
  }
  const step = bidirectional ? 4 : 2;
  if (buckets < step || buckets % step !== 0) {
    throw shapeError("relativeBias", `buckets must be a multiple of ${step}`, `${buckets}`);
  }
  if (!(Number.isInteger(maxDistance) && maxDistance > buckets / step)) {
    const rule = `maxDistance must be a whole number above ${buckets / step}, the distances with a bucket of their own`;
    throw new HeedError("USAGE", `relativeBias: ${rule}; got ${maxDistance}.`);
  }
}
