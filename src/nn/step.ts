import { invariant } from "../core/errors.ts";
import { dim } from "../core/shape.ts";
import { attentionDecodePaged, attentionPaged } from "../ops/attention_paged.ts";
import { kvAppend } from "../ops/kv_append.ts";
import type { Recorder, Value } from "../ops/op.ts";

/** What a block hands to attention: rows `q [N, H·D]`, `k` and `v [N, Hkv·D]`, views welcome. */
export interface AttendInputs {
  readonly layer: number;
  readonly q: Value;
  readonly k: Value;
  readonly v: Value;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  /** A row sees itself and the `window − 1` positions before it; default: all before it. */
  readonly window?: number | undefined;
}

/**
 * What a decoder's forward pass runs on: rows of tokens with their places, and an attention. The model does not know
 * whether it generates from a cache or trains on whole sequences.
 */
export interface DecoderStep {
  /** Token ids `[N]` u32. */
  readonly tokens: Value;
  /** (sequence slot, position) of each row, `[N, 2]` u32; slot 0xffffffff marks a row without a token. */
  readonly rowTable: Value;
  /** A host-made constant of the family, such as `rotary`. */
  constant(name: string): Value;
  /** Records a block of the model: its scope, and whether backward computes it again. */
  block<T>(rec: Recorder, layer: number, body: () => T): T;
  /** Causal self-attention of the rows, `[N, H·D]`. */
  attend(rec: Recorder, inputs: AttendInputs): Value;
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
  /** Set in prefill: (first row, rows, slot, first position) of each query tile. */
  readonly tileTable?: Value;
  /** Sees q and the cache of each layer after the rows' own keys are in it; records what it wants to know of them. */
  readonly onAttend?: (rec: Recorder, inputs: AttendInputs, cache: AttendCache) => void;
}

/** Where the keys and values are that a cached step attends to. */
export interface AttendCache {
  readonly kv: Value;
  readonly rowTable: Value;
  readonly pageTable: Value;
}

/** A step on the paged cache: appends the rows' keys and values, then attends to everything up to the row's own position. */
export function cachedStep(parts: CachedStepParts): DecoderStep {
  const { tokens, rowTable, pageTable, pools, constants, tileTable } = parts;
  const maxPages = dim(pageTable.shape, 1);
  return {
    tokens,
    rowTable,
    constant: (name) => namedConstant(constants, name),
    block: (rec, layer, body) => rec.scope(`block.${layer}`, body),
    attend(rec, inputs) {
      const { layer, q, k, v, heads, kvHeads, headDim, scale, window } = inputs;
      const kv = pools[layer];
      invariant(kv, `no cache for layer ${layer}`);
      kvAppend(rec, { k, v, kv, rowTable, pageTable }, { kvHeads, headDim });
      const options = { heads, kvHeads, headDim, maxPages, scale, window };
      parts.onAttend?.(rec, inputs, { kv, rowTable, pageTable });
      const mixed = tileTable
        ? attentionPaged(rec, { q, kv, rowTable, pageTable, tileTable }, options)
        : attentionDecodePaged(rec, { q, kv, rowTable, pageTable }, options);
      return rec.name(mixed, "mixed"); // [N, H·D]
    },
  };
}

/** A constant of the step by its name. */
export function namedConstant(constants: Readonly<Record<string, Value>>, name: string): Value {
  const value = constants[name];
  invariant(value, `the step has no constant "${name}"`);
  return value;
}
