import { HeedError } from "../core/errors.ts";
import type { AttentionKind } from "../nn/dense_step.ts";
import type { DecoderFacts } from "../models/family.ts";
import { MAX_TOP_KEYS } from "../ops/weight_summary.ts";

/** Whose attention is captured, and what of it. */
export interface AttentionRequest {
  /**
   * Attention of the decoder's tokens to each other (`self`), or to the source's (`memory`). Default: `memory` in
   * encoder–decoders, whose layers have both; else `self`.
   */
  readonly kinds?: readonly AttentionKind[];
  /** Layers from 0; default all. */
  readonly layers?: readonly number[];
  /** Query heads from 0, the same in every layer; default all. */
  readonly heads?: readonly number[];
  /** The weights themselves; default true. */
  readonly weights?: boolean;
  /** Numbers about each row, computed on the GPU; default none. `topKeys` of them name their keys: 1 to 64, default 5. */
  readonly summary?: boolean | { readonly topKeys?: number };
}

/** Attention weights of one layer, exact: rebuilt from the queries and keys that the layer worked with. */
export interface CapturedAttention {
  readonly kind: AttentionKind;
  readonly layer: number;
  readonly heads: readonly number[];
  /** Positions of the query rows. */
  readonly queries: readonly number[];
  /** S: keys are positions 0 to S − 1, of the source in `memory`. */
  readonly keys: number;
  /** `[heads, queries, keys]`, 0 for the keys after a query. Absent with `weights: false`. */
  readonly weights?: Float32Array;
  /** Present if it was asked for. */
  readonly summary?: AttentionSummary;
}

/** What rows of attention weights look like. */
export interface AttentionSummary {
  /** `[heads, queries]`, in nats: 0 where one key has all the weight, ln n where n keys share it alike. */
  readonly entropy: Float32Array;
  /** `[heads, queries]`: the weight of the first key. */
  readonly firstMass: Float32Array;
  /** `[heads, queries]`: mean distance from query to key, in tokens; in `memory` from the source's last token. */
  readonly meanDistance: Float32Array;
  /** `[heads, queries, topKeys]`, by falling weight; 0xffffffff where a row has fewer keys. */
  readonly topKeys: Uint32Array;
  /** `[heads, queries, topKeys]` */
  readonly topWeights: Float32Array;
}

/** A request with every default filled in. */
export interface ResolvedAttention {
  readonly kinds: readonly AttentionKind[];
  readonly layers: readonly number[];
  readonly heads: readonly number[];
  readonly weights: boolean;
  /** Keys that a summary names; 0 for no summary. */
  readonly topKeys: number;
}

const DEFAULT_TOP_KEYS = 5;
const KINDS: readonly AttentionKind[] = ["self", "memory"];

/** Fills in a request's defaults. Throws `USAGE` for what the model has not, what is out of range, or nothing asked for. */
export function resolveAttention(op: string, request: true | AttentionRequest, facts: DecoderFacts): ResolvedAttention {
  const { layers, heads, weights = true, summary = false } = request === true ? {} : request;
  const topKeys = typeof summary === "object" ? (summary.topKeys ?? DEFAULT_TOP_KEYS) : summary ? DEFAULT_TOP_KEYS : 0;
  if (summary && !(Number.isInteger(topKeys) && topKeys >= 1 && topKeys <= MAX_TOP_KEYS)) {
    throw new HeedError("USAGE", `${op}: attention.summary.topKeys must be from 1 to ${MAX_TOP_KEYS}; got ${topKeys}.`);
  }
  if (!weights && topKeys === 0) {
    throw new HeedError(
      "USAGE",
      `${op}: attention asks for neither weights nor summary. Ask for one, or leave it out.`,
    );
  }
  return {
    kinds: resolveKinds(op, typeof request === "object" ? request.kinds : undefined, "encoder" in facts),
    layers: resolveIndexes(`${op}: attention.layers`, layers, facts.layers),
    heads: resolveIndexes(`${op}: attention.heads`, heads, facts.heads),
    weights,
    topKeys,
  };
}

function resolveKinds(op: string, given: readonly AttentionKind[] | undefined, hasMemory: boolean): AttentionKind[] {
  if (given === undefined) return hasMemory ? ["memory"] : ["self"];
  const known = hasMemory ? KINDS : KINDS.slice(0, 1);
  const wrong = given.find((kind) => !known.includes(kind));
  if (given.length > 0 && wrong === undefined) return known.filter((kind) => given.includes(kind));
  throw new HeedError("USAGE", `${op}: attention.kinds must be of ${known.join(", ")}; got ${wrong ?? "none"}.`);
}

/** Sorted whole numbers below `count`, all of them by default. Throws `USAGE`. */
export function resolveIndexes(what: string, given: readonly number[] | undefined, count: number): number[] {
  if (given === undefined) return Array.from({ length: count }, (_, i) => i);
  const list: readonly unknown[] = Array.isArray(given) ? given : [given];
  const at = list.findIndex((i) => !Number.isInteger(i) || (i as number) < 0 || (i as number) >= count);
  if (!Array.isArray(given) || at >= 0 || list.length === 0) {
    const got = list.length === 0 ? "none" : formatIndex(list[Math.max(0, at)]);
    throw new HeedError("USAGE", `${what} must be whole numbers from 0 to ${count - 1}; got ${got}.`);
  }
  return [...new Set(given)].sort((a, b) => a - b);
}

function formatIndex(value: unknown): string {
  return typeof value === "object" && value !== null ? "an object" : String(value);
}

/** A request that covers all of `requests`; undefined for none. */
export function joinRequests(requests: readonly ResolvedAttention[]): ResolvedAttention | undefined {
  if (requests.length === 0) return undefined;
  const all = (of: (r: ResolvedAttention) => readonly number[]) =>
    [...new Set(requests.flatMap((r) => [...of(r)]))].sort((a, b) => a - b);
  return {
    kinds: KINDS.filter((kind) => requests.some((r) => r.kinds.includes(kind))),
    layers: all((r) => r.layers),
    heads: all((r) => r.heads),
    weights: requests.some((r) => r.weights),
    topKeys: Math.max(...requests.map((r) => r.topKeys)),
  };
}
