import alibiCode from "../../shaders/lib/attention_score_alibi.wgsl";
import plainCode from "../../shaders/lib/attention_score_plain.wgsl";
import relativeCode from "../../shaders/lib/attention_score_relative.wgsl";
import bucketCode from "../../shaders/lib/relative_bucket.wgsl";
import { HeedError } from "../core/errors.ts";
import { formatTensor, shapeError } from "../core/shape.ts";
import type { Shader } from "../gpu/compose.ts";
import { type RelativeBias, softcapOf } from "./attention_spec.ts";
import { type Inputs, shader, type Value } from "./op.ts";
import { checkRelative } from "./relative_bias.ts";

/** What becomes of scaled scores where one tensor at most says it: in a paged cache, and where weights are rebuilt. */
export interface ScoreOptions {
  /** `c · tanh(score / c)` of the scaled scores, c > 0. Default: none. */
  readonly softcap?: number | undefined;
  /** `[H]` f32: adds `slope · (j − p)`. Press et al., "Train Short, Test Long" (2022), §3. */
  readonly alibiSlopes?: Value | undefined;
  /** T5's relative position bias; not together with `alibiSlopes`. */
  readonly relativeBias?: RelativeBias | undefined;
}

/** {@link ScoreOptions} as an op's attributes: what is a tensor is one of the op's inputs instead. */
export interface ScoreAttrs {
  readonly softcap?: number | undefined;
  readonly relative?: { readonly bidirectional: boolean; readonly maxDistance: number } | undefined;
}

/** Names of {@link ScoreOptions}' fields. */
export const SCORE_OPTIONS: readonly string[] = ["softcap", "alibiSlopes", "relativeBias"];

/** How a kernel is linked for these scores; `isModified`: they are more than scaled products. */
export interface LinkedScores {
  readonly parts: readonly Shader[];
  readonly bindings: Readonly<Record<string, Value>>;
  readonly params: Readonly<Record<"softcap" | "buckets" | "max_distance" | "bidirectional", number>>;
  readonly isModified: boolean;
}

const PLAIN = shader("lib/attention_score_plain.wgsl", plainCode);
const ALIBI = shader("lib/attention_score_alibi.wgsl", alibiCode);
const RELATIVE = shader("lib/attention_score_relative.wgsl", relativeCode);
const BUCKET = shader("lib/relative_bucket.wgsl", bucketCode);

/** Options apart: tensors for the op's inputs, numbers for its attributes. Throws `UNSUPPORTED` for two tensors. */
export function splitScores<O extends ScoreOptions>(op: string, options: O) {
  const { alibiSlopes, relativeBias, ...rest } = options;
  if (alibiSlopes && relativeBias) {
    throw new HeedError(
      "UNSUPPORTED",
      `${op}: alibiSlopes and relativeBias can't be combined in a paged cache; got both. Leave out one.`,
    );
  }
  const { bidirectional = false, maxDistance = 128 } = relativeBias ?? {};
  const relative = relativeBias && { bidirectional, maxDistance };
  return { values: { alibiSlopes, relativeWeight: relativeBias?.weight }, attrs: { ...rest, relative } };
}

/** Throws `SHAPE` or `USAGE` unless the inputs and attributes that {@link splitScores} gives fit `heads` heads. */
export function checkScores(
  op: string,
  { alibiSlopes, relativeWeight }: Inputs,
  { heads, softcap, relative }: ScoreAttrs & { readonly heads: number },
): void {
  softcapOf(op, softcap);
  if (relative) checkRelative(relativeWeight, { heads, buckets: relativeWeight?.shape[0] ?? 0, ...relative });
  if (!alibiSlopes || (alibiSlopes.shape.length === 1 && alibiSlopes.shape[0] === heads && alibiSlopes.dtype === "f32"))
    return;
  throw shapeError(op, `alibiSlopes must be [H] = [${heads}] f32`, formatTensor("alibiSlopes", alibiSlopes));
}

/** The parts that define `modified_score`, with what they bind and read: plain scores bind nothing. */
export function linkScores(
  op: string,
  { alibiSlopes, relativeWeight }: Inputs,
  { softcap, relative }: ScoreAttrs,
): LinkedScores {
  const params = {
    softcap: softcapOf(op, softcap),
    buckets: relativeWeight?.shape[0] ?? 0,
    max_distance: relative?.maxDistance ?? 0,
    bidirectional: relative?.bidirectional ? 1 : 0,
  };
  if (alibiSlopes) return { parts: [ALIBI], bindings: { slopes: alibiSlopes }, params, isModified: true };
  if (relativeWeight) {
    return { parts: [RELATIVE, BUCKET], bindings: { relative_weight: relativeWeight }, params, isModified: true };
  }
  return { parts: [PLAIN], bindings: {}, params, isModified: softcap !== undefined };
}
