import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import type { PlainBlockConfig } from "../../nn/blocks/plain_block.ts";
import { type RotaryConfig, rotaryFromHub } from "../../nn/rotary.ts";
import type { DecoderFacts } from "../family.ts";
import { activationFromHub, count, MAX_LAYERS, parseConfig } from "../hub_config.ts";

/** GPT-NeoX (arXiv 2204.06745 §2.1) and Pythia. */
export interface GptNeoxConfig extends DecoderFacts, PlainBlockConfig {
  readonly heads: number;
  readonly headDim: number;
  readonly feedForwardWidth: number;
  readonly rotary: RotaryConfig;
  readonly tied: boolean;
  readonly attentionBias: boolean;
}

const schema = v.object({
  hidden_size: count(65536),
  intermediate_size: count(1 << 20),
  num_hidden_layers: count(MAX_LAYERS),
  num_attention_heads: count(1024),
  vocab_size: count(1 << 22),
  max_position_embeddings: count(1 << 24),
  layer_norm_eps: v.optional(v.number(), 1e-5),
  hidden_act: v.optional(v.string(), "gelu"),
  rotary_pct: v.optional(v.number(), 0.25),
  rotary_emb_base: v.optional(v.number(), 10000),
  rope_scaling: v.nullish(v.record(v.string(), v.unknown())),
  rope_parameters: v.nullish(v.record(v.string(), v.unknown())),
  use_parallel_residual: v.optional(v.boolean(), true),
  attention_bias: v.optional(v.boolean(), true),
  tie_word_embeddings: v.optional(v.boolean(), false),
});

export function parseGptNeox(fields: Readonly<Record<string, unknown>>): GptNeoxConfig {
  const hub = parseConfig("gpt_neox", schema, fields);
  const heads = hub.num_attention_heads;
  const headDim = hub.hidden_size / heads;
  if (!Number.isInteger(headDim) || headDim > 256) {
    throw new HeedError(
      "BAD_FILE",
      `gpt_neox: hidden_size must be a multiple of num_attention_heads, the head size at most 256; got ${hub.hidden_size} / ${heads}.`,
    );
  }
  const { rotary_pct: partial_rotary_factor, rotary_emb_base: rope_theta } = hub;
  return {
    vocabSize: hub.vocab_size,
    contextLength: hub.max_position_embeddings,
    layers: hub.num_hidden_layers,
    heads,
    kvHeads: heads,
    headDim,
    width: hub.hidden_size,
    feedForwardWidth: hub.intermediate_size,
    normEps: hub.layer_norm_eps,
    activation: activationFromHub("gpt_neox", hub.hidden_act),
    rotary: rotaryFromHub("gpt_neox", { ...hub, partial_rotary_factor, rope_theta }, headDim),
    parallel: hub.use_parallel_residual,
    attentionBias: hub.attention_bias,
    tied: hub.tie_word_embeddings,
  };
}
