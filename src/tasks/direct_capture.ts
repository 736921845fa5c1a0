import { HeedError } from "../core/errors.ts";
import { Tensor } from "../gpu/tensor.ts";
import { type AttentionRequest, type CapturedAttention, resolveIndexes } from "../inspect/attention_request.ts";
import { attention, type AttentionOptions } from "../ops/attention.ts";
import { attentionCapture } from "../ops/attention_capture.ts";
import { attentionUnfused } from "../ops/attention_unfused.ts";
import type { Recorder, Value } from "../ops/op.ts";
import { MAX_TOP_KEYS, weightSummary } from "../ops/weight_summary.ts";
import type { ArrayTensor, OpInput } from "../program/direct.ts";
import { shown } from "./direct_checks.ts";

/** The attention that a direct call captures: as a run's request, without layers. */
export interface CaptureRequest extends Omit<AttentionRequest, "layers"> {
  /** Query rows from 0, the same of every sequence; default all. A shorter sequence of a ragged batch has those that it has. */
  readonly queries?: readonly number[];
}

/** Attention weights of one sequence of a direct call, before dropout: the exact ones of its softmax, or the one-hot of hard selection. */
export interface CapturedSequence extends Omit<CapturedAttention, "kind" | "layer"> {
  /** Index in the batch. */
  readonly sequence: number;
}

/** Sequences that are captured together. */
export interface CaptureGroup {
  /** Index in the batch of the first. */
  readonly first: number;
  readonly count: number;
  readonly queryLength: number;
  readonly keyLength: number;
  /** Position of each one's first query. */
  readonly starts: readonly number[];
}

interface Resolved {
  readonly heads: readonly number[];
  readonly weights: boolean;
  /** 0 for no summary. */
  readonly topKeys: number;
}

const FIELDS = ["heads", "queries", "weights", "summary"];
const DEFAULT_TOP_KEYS = 5;

/** What a direct call records and reads for its capture. */
export class DirectCapture {
  /** Host arrays that the call binds beside its own. */
  readonly inputs: Record<string, OpInput> = {};
  readonly #resolved: Resolved;
  readonly #groups: readonly (CaptureGroup & { readonly queries: readonly number[] })[];
  /** Of the heads that the record computed, which are those asked for; differs where all had to be computed. */
  readonly #allHeads: boolean;

  constructor(
    request: true | CaptureRequest,
    heads: number,
    groups: readonly CaptureGroup[],
    options: AttentionOptions,
  ) {
    const given = request === true ? {} : request;
    this.#resolved = resolve(given, heads);
    this.#allHeads = needsThreeKernels(options);
    const longest = Math.max(0, ...groups.map((g) => g.queryLength));
    const queries = resolveIndexes("attention: capture.queries", given.queries, longest);
    this.#groups = groups.map((g) => ({ ...g, queries: queries.filter((i) => i < g.queryLength) }));
    for (const [i, group] of this.#groups.entries()) this.#addInputs(i, group);
  }

  /** What the plan is kept by, beside the shapes. */
  get attrs(): unknown {
    return { ...this.#resolved, heads: this.#resolved.heads.length };
  }

  /** Attention of a group, and the outputs that hold what is captured of it. */
  record(
    rec: Recorder,
    qkv: { q: Value; k: Value; v: Value },
    options: AttentionOptions,
    { group, values }: { group: number; values: Readonly<Record<string, Value | undefined>> },
  ): { out: Value; lse: Value; captured: Record<string, Value> } {
    const { keep: _, kernel, ...spec } = options;
    const [lists, places] = [values[`capture.${group}.lists`], values[`capture.${group}.places`]];
    if (!this.#groups[group]?.queries.length) {
      return { ...(attention(rec, qkv, { ...spec, kernel, keep: "lse" }) as { out: Value; lse: Value }), captured: {} };
    }
    if (!this.#allHeads) {
      const { out, lse } = attention(rec, qkv, { ...spec, kernel, keep: "lse" }) as { out: Value; lse: Value };
      const chosen = this.#resolved.heads.length;
      const weights = attentionCapture(rec, { ...qkv, lse, lists: lists as Value, chosen }, spec);
      return { out, lse, captured: this.#outputs(rec, group, weights, places) };
    }
    const { out, lse, probs } = attentionUnfused(rec, qkv, spec);
    return { out, lse, captured: this.#outputs(rec, group, probs, places) };
  }

  /** Takes what was captured out of a call's results, whose tensors it disposes. */
  async read(results: Record<string, OpInput>): Promise<CapturedSequence[]> {
    const found: CapturedSequence[] = [];
    for (const [i, group] of this.#groups.entries()) {
      const part = async (name: string): Promise<ArrayTensor | undefined> => {
        const key = `capture.${i}.${name}`;
        const result = results[key];
        delete results[key];
        if (!(result instanceof Tensor)) return result;
        const buffer = await result.read();
        const { shape, dtype } = result;
        result.dispose();
        return { shape, data: dtype === "u32" ? new Uint32Array(buffer) : new Float32Array(buffer) };
      };
      const parts = { weights: await part("weights"), stats: await part("stats") };
      const top = { keys: await part("top_keys"), weights: await part("top_weights") };
      for (let b = 0; b < group.count; b++) found.push(this.#sequence(group, b, parts, top));
    }
    return found;
  }

  #addInputs(i: number, { queries, starts }: CaptureGroup & { readonly queries: readonly number[] }): void {
    const { heads, topKeys } = this.#resolved;
    if (queries.length === 0) return;
    const input = (name: string, values: readonly number[]) => {
      this.inputs[`capture.${i}.${name}`] = { shape: [values.length], data: Uint32Array.from(values) };
    };
    if (!this.#allHeads) input("lists", [...heads, ...queries]);
    const rows = this.#allHeads ? Array.from({ length: this.#groups[i]?.queryLength ?? 0 }, (_, t) => t) : queries;
    if (topKeys > 0)
      input(
        "places",
        starts.flatMap((start) => rows.map((t) => start + t)),
      );
  }

  #outputs(rec: Recorder, group: number, weights: Value, places: Value | undefined): Record<string, Value> {
    const name = (part: string) => `capture.${group}.${part}`;
    const kept = this.#resolved.weights ? { [name("weights")]: weights } : {};
    if (!places) return kept;
    const { stats, topKeys, topWeights } = weightSummary(rec, { weights, places }, { top: this.#resolved.topKeys });
    return { ...kept, [name("stats")]: stats, [name("top_keys")]: topKeys, [name("top_weights")]: topWeights };
  }

  #sequence(
    { first, queries, keyLength }: CaptureGroup & { readonly queries: readonly number[] },
    b: number,
    { weights, stats }: Record<"weights" | "stats", ArrayTensor | undefined>,
    top: Record<"keys" | "weights", ArrayTensor | undefined>,
  ): CapturedSequence {
    const { heads, topKeys } = this.#resolved;
    const cut = (tensor: ArrayTensor | undefined) =>
      cutSequence(tensor, b, this.#allHeads ? { heads, queries } : undefined);
    const shared = { sequence: first + b, heads, queries, keys: keyLength };
    const kept = this.#resolved.weights ? { weights: Float32Array.from(cut(weights)) } : {};
    if (topKeys === 0) return { ...shared, ...kept };
    const numbers = Float32Array.from(cut(stats));
    const column = (i: number) => numbers.filter((_, at) => at % 3 === i);
    const summary = {
      ...{ entropy: column(0), firstMass: column(1), meanDistance: column(2) },
      topKeys: Uint32Array.from(cut(top.keys)),
      topWeights: Float32Array.from(cut(top.weights)),
    };
    return { ...shared, ...kept, summary };
  }
}

/** True if no kernel rebuilds these weights from lse. */
function needsThreeKernels({ selection, bias, mask, relativeBias }: AttentionOptions): boolean {
  return selection === "hard" || Boolean(bias && mask && relativeBias);
}

function resolve(given: CaptureRequest, count: number): Resolved {
  const unknown = typeof given === "object" && given ? Object.keys(given).find((key) => !FIELDS.includes(key)) : "";
  if (unknown !== undefined) {
    const got = unknown === "" ? shown(given) : `a field "${unknown}"`;
    throw new HeedError("USAGE", `attention: capture is true, or has ${FIELDS.join(", ")}; got ${got}.`);
  }
  const { heads, weights = true, summary = false } = given;
  const topKeys = typeof summary === "object" ? (summary?.topKeys ?? DEFAULT_TOP_KEYS) : summary ? DEFAULT_TOP_KEYS : 0;
  if (summary && !(Number.isInteger(topKeys) && topKeys >= 1 && topKeys <= MAX_TOP_KEYS)) {
    const rule = `capture.summary.topKeys must be from 1 to ${MAX_TOP_KEYS}`;
    throw new HeedError("USAGE", `attention: ${rule}; got ${shown(topKeys)}.`);
  }
  if (!weights && topKeys === 0) {
    const rule = "capture asks for neither weights nor summary";
    throw new HeedError("USAGE", `attention: ${rule}. Ask for one, or leave capture out.`);
  }
  return { heads: resolveIndexes("attention: capture.heads", heads, count), weights, topKeys };
}

/** Sequence b of `[B, H, T, n]`: all of it, or chosen heads and queries. */
function cutSequence(
  tensor: ArrayTensor | undefined,
  b: number,
  chosen: { readonly heads: readonly number[]; readonly queries: readonly number[] } | undefined,
): ArrayLike<number> {
  if (!tensor) return [];
  const [, H = 1, T = 1, n = 1] = tensor.shape;
  const all = tensor.data.subarray(b * H * T * n, (b + 1) * H * T * n);
  if (!chosen) return all;
  return chosen.heads.flatMap((h) =>
    chosen.queries.flatMap((t) => [...all.subarray((h * T + t) * n, (h * T + t + 1) * n)]),
  );
}
