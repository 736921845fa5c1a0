import { invariant } from "../core/errors.ts";
import { attention } from "../ops/attention.ts";
import type { AttentionSpec, PerSequence } from "../ops/attention_spec.ts";
import { attentionUnfused } from "../ops/attention_unfused.ts";
import { dropout } from "../ops/dropout.ts";
import type { Recorder, Value } from "../ops/op.ts";
import { type MemoryRows, namedConstant, type ScoreInputs, scoresOf, type Step } from "./step.ts";

/** What {@link denseStep} needs: `batch` sequences of `length` tokens each, row b·length + t. */
export interface DenseStepParts {
  readonly tokens: Value;
  readonly rowTable: Value;
  readonly batch: number;
  readonly length: number;
  readonly constants: Readonly<Record<string, Value>>;
  /** A row sees no later row; default true. False in encoders. */
  readonly causal?: boolean;
  /** With `causal`: so many first tokens of a sequence see each other both ways. */
  readonly prefix?: PerSequence;
  /** Tokens of each sequence; the rows after them are padding, which no row sees. Default: all. */
  readonly keyLengths?: PerSequence;
  /** Set in encoder–decoders: what cross-attention reads. */
  readonly memory?: DenseMemory;
  /** Backward computes each block again instead of keeping its intermediates. */
  readonly recompute?: boolean;
  /** A gradient will be taken: the fused kernel keeps what backward reads. */
  readonly training?: boolean;
  readonly dropout?: DropoutRates;
  /** Layers whose scores and weights are wanted as values: the three named kernels run there. Default: none. */
  readonly unfused?: (layer: number, kind: AttentionKind) => boolean;
  /** Sees what each attention reads; `lse` `[B, H, T]` where {@link DenseStepParts.lse} asks for it and the kernel is fused. */
  readonly onAttend?: (seen: AttendSeen) => void;
  /** Attentions whose largest score takes all the weight; default none. Hard attention of Luong et al., arXiv 1508.04025 §3. */
  readonly hard?: (layer: number, kind: AttentionKind) => boolean;
  /** Layers whose log-sum-exp `onAttend` needs. */
  readonly lse?: (layer: number, kind: AttentionKind) => boolean;
}

/** Whether rows attend to their own sequence, or to the encoder's. */
export type AttentionKind = "self" | "memory";

/** The encoder's rows, as keys and values of each layer of the decoder: row b·length + s. */
export interface DenseMemory {
  readonly layers: readonly MemoryRows[];
  readonly length: number;
  readonly keyLengths?: PerSequence;
}

/** Rates of dropout, and the counter `[3]` u32 that the masks are drawn from. */
export interface DropoutRates {
  /** Of {@link Step.dropout}. */
  readonly hidden: number;
  /** Of attention weights. */
  readonly attention: number;
  readonly rng: Value;
}

/** One attention of a dense step: its rows and everything that makes its scores. */
export interface AttendSeen {
  readonly layer: number;
  readonly kind: AttentionKind;
  readonly q: Value;
  readonly k: Value;
  readonly v: Value;
  readonly spec: AttentionSpec;
  readonly lse: Value | undefined;
}

/** A step on whole sequences without a cache, by the fused kernel, or by the three named ones where their values are wanted. */
export function denseStep(parts: DenseStepParts): Step {
  const { batch, length, keyLengths, prefix, causal = true } = parts;
  return {
    tokens: parts.tokens,
    rowTable: parts.rowTable,
    constant: (name) => namedConstant(parts.constants, name),
    block(rec, layer, body) {
      const scoped = () => rec.scope(`block.${layer}`, body);
      return parts.recompute ? rec.recomputed(scoped) : scoped();
    },
    attend(rec, inputs) {
      const { layer, q, k, v, window } = inputs;
      // A window of a decoder looks back; in an encoder it would need both sides, which no family has.
      invariant(causal || window === undefined, "a window without a causal mask");
      const mask = { causal, window, keyLengths, ...(causal ? { prefix } : {}) };
      const spec: AttentionSpec = { ...sizesOf(inputs), ...mask, batch, queryLength: length, keyLength: length };
      return mix(rec, parts, { layer, kind: "self", q, k, v, spec, lse: undefined });
    },
    attendMemory(rec, inputs) {
      const { layer, q } = inputs;
      const { memory } = parts;
      const rows = memory?.layers[layer];
      invariant(memory && rows, `no memory of the encoder for layer ${layer}`);
      const lengths = { batch, queryLength: length, keyLength: memory.length, keyLengths: memory.keyLengths };
      return mix(rec, parts, {
        ...{ layer, kind: "memory", q, k: rows.k, v: rows.v, lse: undefined },
        spec: { ...sizesOf(inputs), ...lengths },
      });
    },
    dropout: (rec, x) => dropped(rec, parts, x),
  };
}

function sizesOf(inputs: ScoreInputs) {
  return { ...scoresOf(inputs), layout: "rows" } as const;
}

/** Records one attention, `[N, H·D]`, and shows it to who watches. */
function mix(rec: Recorder, parts: DenseStepParts, seen: AttendSeen): Value {
  const { layer, kind, q, k, v } = seen;
  const rates = parts.dropout;
  const weights = rates && rates.attention > 0 ? { dropout: { rate: rates.attention, rng: rates.rng } } : {};
  const selection = parts.hard?.(layer, kind) ? { selection: "hard" as const } : {};
  const spec = { ...seen.spec, ...weights, ...selection };
  if (parts.unfused?.(layer, kind)) {
    parts.onAttend?.(seen);
    // scores and probs are [B, H, T, S].
    const { out } = attentionUnfused(rec, { q, k, v }, spec, (value, name) => rec.name(value, name));
    return rec.name(out, "mixed");
  }
  const keep = parts.training || parts.lse?.(layer, kind) ? { keep: "lse" as const } : {};
  const { out, lse } = attention(rec, { q, k, v }, { ...spec, ...keep });
  parts.onAttend?.({ ...seen, lse });
  return rec.name(out, "mixed"); // [N, H·D]
}

function dropped(rec: Recorder, { dropout: rates }: DenseStepParts, x: Value): Value {
  return rates && rates.hidden > 0 ? dropout(rec, x, { rate: rates.hidden, rng: rates.rng }) : x;
}
