import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import { type RotaryConfig, rotaryFromHub } from "../../nn/rotary.ts";
import type { ActivationName } from "../../ops/activation_parts.ts";
import type { DecoderFacts } from "../family.ts";
import { activationFromHub, count, MAX_LAYERS, parseConfig } from "../hub_config.ts";

/** Llama (arXiv 2302.13971, 2307.09288, 2407.21783) and what shares its block: SmolLM, TinyLlama. */
export interface LlamaConfig extends DecoderFacts {
  readonly width: number;
  readonly feedForwardWidth: number;
  readonly heads: number;
  readonly normEps: number;
  readonly activation: ActivationName;
  readonly rotary: RotaryConfig;
  /** The output matrix is the embedding. */
  readonly tied: boolean;
  readonly attentionBias: boolean;
  readonly feedForwardBias: boolean;
}

const schema = v.object({
  hidden_size: count(65536),
  intermediate_size: count(1 << 20),
  num_hidden_layers: count(MAX_LAYERS),
  num_attention_heads: count(1024),
  num_key_value_heads: v.nullish(count(1024)),
  head_dim: v.nullish(count(256)),
  vocab_size: count(1 << 22),
  max_position_embeddings: count(1 << 24),
  rms_norm_eps: v.optional(v.number(), 1e-6),
  hidden_act: v.optional(v.string(), "silu"),
  rope_theta: v.optional(v.number()),
  rope_scaling: v.nullish(v.record(v.string(), v.unknown())),
  rope_parameters: v.nullish(v.record(v.string(), v.unknown())),
  tie_word_embeddings: v.optional(v.boolean(), false),
  attention_bias: v.optional(v.boolean(), false),
  mlp_bias: v.optional(v.boolean(), false),
});

export function parseLlama(fields: Readonly<Record<string, unknown>>): LlamaConfig {
  const hub = parseConfig("llama", schema, fields);
  const heads = hub.num_attention_heads;
  const kvHeads = hub.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0) {
    throw new HeedError(
      "BAD_FILE",
      `llama: H must be a multiple of Hkv; got H = ${heads}, Hkv = ${kvHeads}. Check num_key_value_heads in config.json.`,
    );
  }
  const headDim = hub.head_dim ?? hub.hidden_size / heads;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0 || headDim > 256) {
    throw new HeedError(
      "BAD_FILE",
      `llama: the head size must be even and at most 256; got ${headDim}. Check head_dim, hidden_size and num_attention_heads.`,
    );
  }
  return {
    vocabSize: hub.vocab_size,
    contextLength: hub.max_position_embeddings,
    layers: hub.num_hidden_layers,
    kvHeads,
    headDim,
    width: hub.hidden_size,
    feedForwardWidth: hub.intermediate_size,
    heads,
    normEps: hub.rms_norm_eps,
    activation: activationFromHub("llama", hub.hidden_act),
    rotary: rotaryFromHub(
      "llama",
      { ...hub, rope_scaling: hub.rope_scaling ?? null, rope_parameters: hub.rope_parameters ?? null },
      headDim,
    ),
    tied: hub.tie_word_embeddings,
    attentionBias: hub.attention_bias,
    feedForwardBias: hub.mlp_bias,
  };
}
