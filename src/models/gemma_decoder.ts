import * as v from "valibot";
import { type GatedConfig, type GatedRules, gatedRules, parseGated } from "./gated_decoder.ts";
import type { WeightRule } from "./family.ts";
import { count, parseConfig, windowsFromHub } from "./hub_config.ts";
import { vectorRule } from "./rules.ts";

const cap = v.nullish(v.pipe(v.number(), v.gtValue(0)));
const schema = v.object({
  hidden_size: v.optional(count(65536), 2304),
  hidden_activation: v.nullish(v.string()),
  query_pre_attn_scalar: v.optional(v.pipe(v.number(), v.gtValue(0)), 256),
  attention_bias: v.optional(v.boolean(), false),
  use_bidirectional_attention: v.nullish(v.literal(false, "both-way attention is not supported")),
  sliding_window: v.nullish(count(1 << 24), 4096),
  layer_types: v.nullish(v.array(v.string())),
  sliding_window_pattern: v.nullish(count(512)),
  attn_logit_softcapping: cap,
  final_logit_softcapping: cap,
});

/** Fields that configs leave out where they are what the family's first model had. */
const DEFAULTS = {
  vocab_size: 256000,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  max_position_embeddings: 8192,
  tie_word_embeddings: true,
};

/**
 * What Gemma 2 and 3 share: scaled embeddings, a scale of scores of its own, soft caps, and windows in all layers but every
 * `pattern`-th. A family spreads over it what it has besides.
 */
export function parseGemma(
  family: string,
  given: Readonly<Record<string, unknown>>,
  defaults: { readonly pattern: number } & Readonly<Record<string, unknown>>,
): GatedConfig {
  const { pattern, ...rest } = defaults;
  const fields = { ...DEFAULTS, ...rest, ...given };
  const hub = parseConfig(family, schema, fields);
  const config = parseGated(family, { ...fields, hidden_act: hub.hidden_activation ?? "gelu_pytorch_tanh" });
  const every = hub.sliding_window_pattern ?? pattern;
  const types = Array.from({ length: config.layers }, (_, i) =>
    (i + 1) % every === 0 ? "full_attention" : "sliding_attention",
  );
  const layerTypes = hub.layer_types ?? types;
  return {
    ...config,
    embeddingScale: config.width ** 0.5,
    scale: hub.query_pre_attn_scalar ** -0.5,
    softcap: hub.attn_logit_softcapping ?? undefined,
    logitCap: hub.final_logit_softcapping ?? undefined,
    biases: { qkv: hub.attention_bias, out: hub.attention_bias, feedForward: false },
    windows: windowsFromHub(family, config.layers, { window: hub.sliding_window, layerTypes }),
    rotaryNames: layerTypes.map((type) => (type === "sliding_attention" ? "rotary_local" : "rotary")),
  };
}

/** Where Llama has them, with a norm before and after each of attention and feed-forward; gains are kept less 1. */
export function gemmaRules(c: GatedConfig): GatedRules {
  const rules = gatedRules(c);
  const gain = (name: string): WeightRule => ({ ...vectorRule(`${name}.weight`, c.width), offset: 1 });
  return {
    ...rules,
    norm: gain("norm"),
    blocks: rules.blocks.map((block, i) => ({
      ...block,
      attentionNorm: gain(`layers.${i}.input_layernorm`),
      attentionPostNorm: gain(`layers.${i}.post_attention_layernorm`),
      feedForwardNorm: gain(`layers.${i}.pre_feedforward_layernorm`),
      feedForwardPostNorm: gain(`layers.${i}.post_feedforward_layernorm`),
      qNorm: block.qNorm && { ...block.qNorm, offset: 1 },
      kNorm: block.kNorm && { ...block.kNorm, offset: 1 },
    })),
  };
}
