import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import type { ActivationName } from "../../ops/activation_parts.ts";
import type { EncoderDecoderFacts } from "../family.ts";
import { activationFromHub, count, MAX_LAYERS, parseConfig } from "../hub_config.ts";

/** T5 (arXiv 1910.10683 §2.1), its version 1.1 and its multilingual sibling (arXiv 2010.11934). */
export interface T5Config extends EncoderDecoderFacts {
  /** C. */
  readonly width: number;
  readonly feedForwardWidth: number;
  readonly normEps: number;
  readonly activation: ActivationName;
  /** The feed-forward is gated, as in version 1.1. */
  readonly gated: boolean;
  /** Of the relative positions. */
  readonly buckets: number;
  readonly maxDistance: number;
  /** The output matrix is the embedding, and hidden states are multiplied with C^−½ before it. */
  readonly tied: boolean;
}

/** Relative positions have no end; this is how long a text the cache and the plans are made for. */
const CONTEXT_LENGTH = 2048;

const schema = v.object({
  vocab_size: count(1 << 22),
  d_model: count(65536),
  d_kv: count(256),
  d_ff: count(1 << 20),
  num_layers: count(MAX_LAYERS),
  num_decoder_layers: v.nullish(count(MAX_LAYERS)),
  num_heads: count(1024),
  n_positions: v.nullish(count(1 << 24)),
  relative_attention_num_buckets: v.optional(count(1 << 16), 32),
  relative_attention_max_distance: v.optional(count(1 << 24), 128),
  layer_norm_epsilon: v.optional(v.number(), 1e-6),
  feed_forward_proj: v.optional(v.string()),
  decoder_start_token_id: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(0))),
  pad_token_id: v.nullish(v.number()),
  tie_word_embeddings: v.optional(v.boolean(), true),
  model_type: v.string(),
});

export function parseT5(fields: Readonly<Record<string, unknown>>): T5Config {
  const hub = parseConfig("t5", schema, fields);
  const feedForward = hub.feed_forward_proj ?? (hub.model_type === "mt5" ? "gated-gelu" : "relu");
  const [first = "", second, third] = feedForward.split("-");
  const gated = first === "gated";
  if (third !== undefined || gated !== (second !== undefined)) {
    throw new HeedError("BAD_FILE", `t5: feed_forward_proj must be an activation or gated-…; got ${feedForward}.`);
  }
  const start = hub.decoder_start_token_id ?? hub.pad_token_id ?? 0;
  if (start >= hub.vocab_size) {
    throw new HeedError("BAD_FILE", `t5: decoder_start_token_id must be below ${hub.vocab_size}; got ${start}.`);
  }
  const contextLength = Math.max(hub.n_positions ?? 0, CONTEXT_LENGTH);
  return {
    vocabSize: hub.vocab_size,
    contextLength,
    layers: hub.num_decoder_layers ?? hub.num_layers,
    heads: hub.num_heads,
    kvHeads: hub.num_heads,
    headDim: hub.d_kv,
    encoder: { contextLength, layers: hub.num_layers, heads: hub.num_heads },
    decoderStart: start,
    width: hub.d_model,
    feedForwardWidth: hub.d_ff,
    normEps: hub.layer_norm_epsilon,
    // T5's "gated-gelu" is the approximation by tanh.
    activation: activationFromHub("t5", feedForward === "gated-gelu" ? "gelu_new" : (second ?? first)),
    gated,
    buckets: hub.relative_attention_num_buckets,
    maxDistance: hub.relative_attention_max_distance,
    tied: hub.tie_word_embeddings,
  };
}
