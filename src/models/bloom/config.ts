import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import type { PlainBlockConfig } from "../../nn/blocks/plain_block.ts";
import type { DecoderFacts } from "../family.ts";
import { count, MAX_LAYERS, parseConfig } from "../hub_config.ts";

/** BLOOM (arXiv 2211.05100 §3.2). */
export interface BloomConfig extends DecoderFacts, PlainBlockConfig {
  readonly heads: number;
  readonly headDim: number;
  readonly feedForwardWidth: number;
  readonly tied: boolean;
}

const schema = v.object({
  hidden_size: v.optional(count(65536)),
  n_embed: v.optional(count(65536)),
  n_layer: v.optional(count(MAX_LAYERS)),
  num_hidden_layers: v.optional(count(MAX_LAYERS)),
  n_head: v.optional(count(1024)),
  num_attention_heads: v.optional(count(1024)),
  vocab_size: count(1 << 22),
  seq_length: v.optional(count(1 << 24), 2048),
  layer_norm_epsilon: v.optional(v.number(), 1e-5),
  apply_residual_connection_post_layernorm: v.optional(v.boolean(), false),
  tie_word_embeddings: v.optional(v.boolean(), true),
});

/** Older configs say n_embed, n_layer and n_head; `seq_length` is how long the texts of training were. */
export function parseBloom(fields: Readonly<Record<string, unknown>>): BloomConfig {
  const hub = parseConfig("bloom", schema, fields);
  const width = hub.n_embed ?? hub.hidden_size ?? missing("hidden_size");
  const heads = hub.num_attention_heads ?? hub.n_head ?? missing("num_attention_heads");
  const headDim = width / heads;
  if (!Number.isInteger(headDim) || headDim > 256) {
    throw new HeedError(
      "BAD_FILE",
      `bloom: hidden_size must be a multiple of num_attention_heads, the head size at most 256; got ${width} / ${heads}.`,
    );
  }
  if (hub.apply_residual_connection_post_layernorm) {
    throw new HeedError(
      "UNSUPPORTED",
      "bloom: residuals must begin before their norms; got apply_residual_connection_post_layernorm true in config.json.",
    );
  }
  return {
    vocabSize: hub.vocab_size,
    contextLength: hub.seq_length,
    layers: hub.num_hidden_layers ?? hub.n_layer ?? missing("num_hidden_layers"),
    heads,
    kvHeads: heads,
    headDim,
    width,
    feedForwardWidth: 4 * width,
    normEps: hub.layer_norm_epsilon,
    activation: "gelu_tanh",
    alibi: true,
    tied: hub.tie_word_embeddings,
  };
}

function missing(name: string): never {
  throw new HeedError("BAD_FILE", `bloom: config.json does not describe this architecture: ${name} is missing.`);
}

/**
 * ALiBi's slopes `[H]`: the geometric sequence that begins at and has the ratio 2^(−8/n) for n heads; where H is no power of
 * two, every other one of twice as many heads follows. Source: arXiv 2108.12409 §3 and its released code's description.
 */
export function alibiSlopes(heads: number): Float32Array {
  const power = 2 ** Math.floor(Math.log2(heads));
  const slope = (n: number, i: number) => 2 ** ((-8 * i) / n);
  const rest = Array.from({ length: heads - power }, (_, i) => slope(2 * power, 2 * i + 1));
  return Float32Array.from([...Array.from({ length: power }, (_, i) => slope(power, i + 1)), ...rest]);
}
