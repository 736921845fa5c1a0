import { invariant } from "../core/errors.ts";
import { dim } from "../core/shape.ts";
import { attentionDecodePaged, attentionPaged } from "../ops/attention_paged.ts";
import type { RelativeBias } from "../ops/attention_spec.ts";
import { kvAppend } from "../ops/kv_append.ts";
import type { Recorder, Value } from "../ops/op.ts";

/** What a block hands to self-attention: rows `q [N, H·D]`, `k` and `v [N, Hkv·D]`, views welcome. */
export interface AttendInputs extends ScoreInputs {
  readonly k: Value;
  readonly v: Value;
  /** A row sees itself and the `window − 1` positions before it; default: all that its step lets it see. */
  readonly window?: number | undefined;
}

/** What a block hands to cross-attention: rows `q [N, H·D]`; keys and values are the step's memory of that layer. */
export interface ScoreInputs {
  readonly layer: number;
  readonly q: Value;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  /** `c · tanh(score / c)` of the scaled scores; default: none. */
  readonly softcap?: number | undefined;
  /** `[H]` f32: adds `slope · (key − position)`; default: none. */
  readonly alibiSlopes?: Value | undefined;
  /** T5's relative position bias; default: none. Not together with slopes. */
  readonly relativeBias?: RelativeBias | undefined;
}

/** Keys and values of the encoder's rows for one layer of the decoder: `[M, Hkv·D]` each, views welcome. */
export interface MemoryRows {
  readonly k: Value;
  readonly v: Value;
}

/**
 * What a forward pass runs on: rows of tokens with their places, and an attention. The model does not know whether it
 * generates from a cache, encodes, or trains on whole sequences.
 */
export interface Step {
  /** Token ids `[N]` u32; for an encoder of sound, its features `[frames, channels]` f32. */
  readonly tokens: Value;
  /** (sequence slot, position) of each row, `[N, 2]` u32; slot 0xffffffff marks a row without a token. */
  readonly rowTable: Value;
  /** A host-made constant of the family, such as `rotary`. */
  constant(name: string): Value;
  /** Records a block of the model: its scope, and whether backward computes it again. */
  block<T>(rec: Recorder, layer: number, body: () => T): T;
  /** Self-attention of the rows, `[N, H·D]`: causal in decoders, both ways in encoders. */
  attend(rec: Recorder, inputs: AttendInputs): Value;
  /** Attention of the rows to the encoder's, `[N, H·D]`. */
  attendMemory(rec: Recorder, inputs: ScoreInputs): Value;
  /** In training: drops elements of `x [N, C]` where the papers do (embeddings, sublayers' outputs); otherwise `x`. */
  dropout(rec: Recorder, x: Value): Value;
}

/** Slot of a row that holds no token. */
export const NO_SLOT = 0xffffffff;

/** What the steps on a KV cache share. */
export interface CachedStepParts {
  readonly tokens: Value;
  readonly rowTable: Value;
  readonly pageTable: Value;
  /** One pool per layer. */
  readonly pools: readonly Value[];
  readonly constants: Readonly<Record<string, Value>>;
  /** Set in prefill: (first row, rows, slot, first position) of each query tile; in tables of 8 columns its prefix too. */
  readonly tileTable?: Value;
  /** Sees q and the cache of each layer after the rows' own keys are in it; records what it wants to know of them. */
  readonly onAttend?: (rec: Recorder, inputs: AttendInputs, cache: AttendCache) => void;
  /** Like `onAttend`, for attention to the encoder's rows. */
  readonly onAttendMemory?: (rec: Recorder, inputs: ScoreInputs, cache: AttendCache) => void;
  /** Set in encoder–decoders: where each layer's keys and values of the encoder's rows are. */
  readonly memory?: MemoryCache;
}

/** A cache of the encoder's keys and values. Row n sees the first `position + 1` keys of its (slot, position) in `rowTable`. */
export interface MemoryCache {
  readonly rowTable: Value;
  readonly pageTable: Value;
  readonly pools: readonly Value[];
}

/** Where the keys and values are that a cached step attends to. */
export interface AttendCache {
  readonly kv: Value;
  readonly rowTable: Value;
  readonly pageTable: Value;
}

/** A step on the paged cache: appends the rows' keys and values, then attends to everything up to the row's own position. */
export function cachedStep(parts: CachedStepParts): Step {
  const { tokens, rowTable, pageTable, pools, constants, tileTable } = parts;
  const maxPages = dim(pageTable.shape, 1);
  return {
    tokens,
    rowTable,
    constant: (name) => namedConstant(constants, name),
    block: (rec, layer, body) => rec.scope(`block.${layer}`, body),
    attend(rec, inputs) {
      const { layer, q, k, v, kvHeads, headDim, window } = inputs;
      const kv = pools[layer];
      invariant(kv, `no cache for layer ${layer}`);
      kvAppend(rec, { k, v, kv, rowTable, pageTable }, { kvHeads, headDim });
      const options = { ...scoresOf(inputs), maxPages, window };
      parts.onAttend?.(rec, inputs, { kv, rowTable, pageTable });
      const mixed = tileTable
        ? attentionPaged(rec, { q, kv, rowTable, pageTable, tileTable }, options)
        : attentionDecodePaged(rec, { q, kv, rowTable, pageTable }, options);
      return rec.name(mixed, "mixed"); // [N, H·D]
    },
    attendMemory(rec, inputs) {
      const { layer, q } = inputs;
      const { memory } = parts;
      const kv = memory?.pools[layer];
      invariant(memory && kv, `no memory of the encoder for layer ${layer}`);
      const { rowTable, pageTable } = memory;
      const options = { ...scoresOf(inputs), maxPages: dim(pageTable.shape, 1) };
      parts.onAttendMemory?.(rec, inputs, { kv, rowTable, pageTable });
      return rec.name(attentionDecodePaged(rec, { q, kv, rowTable, pageTable }, options), "mixed"); // [N, H·D]
    },
    dropout: (_, x) => x,
  };
}

/** How scores are made: what both kinds of attention take of a block's inputs. */
export function scoresOf({ heads, kvHeads, headDim, scale, softcap, alibiSlopes, relativeBias }: ScoreInputs) {
  return { heads, kvHeads, headDim, scale, softcap, alibiSlopes, relativeBias };
}

/** A constant of the step by its name. */
export function namedConstant(constants: Readonly<Record<string, Value>>, name: string): Value {
  const value = constants[name];
  invariant(value, `the step has no constant "${name}"`);
  return value;
}
