import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import type { PlainBlockConfig } from "../../nn/blocks/plain_block.ts";
import type { DecoderFacts } from "../family.ts";
import { activationFromHub, count, MAX_LAYERS, parseConfig } from "../hub_config.ts";

/** OPT (arXiv 2205.01068 §2.1), but for the 350M model, whose norms stand after the blocks. */
export interface OptConfig extends DecoderFacts, PlainBlockConfig {
  readonly heads: number;
  readonly headDim: number;
  readonly feedForwardWidth: number;
  readonly tied: boolean;
  readonly biased: boolean;
}

const schema = v.object({
  hidden_size: count(65536),
  ffn_dim: count(1 << 20),
  num_hidden_layers: count(MAX_LAYERS),
  num_attention_heads: count(1024),
  vocab_size: count(1 << 22),
  max_position_embeddings: count(1 << 24),
  word_embed_proj_dim: v.nullish(count(65536)),
  activation_function: v.optional(v.string(), "relu"),
  do_layer_norm_before: v.optional(v.boolean(), true),
  _remove_final_layer_norm: v.optional(v.boolean(), false),
  layer_norm_elementwise_affine: v.optional(v.boolean(), true),
  enable_bias: v.optional(v.boolean(), true),
  tie_word_embeddings: v.optional(v.boolean(), true),
});

export function parseOpt(fields: Readonly<Record<string, unknown>>): OptConfig {
  const hub = parseConfig("opt", schema, fields);
  const refuse = (rule: string, got: string) => {
    throw new HeedError("UNSUPPORTED", `opt: ${rule}; got ${got} in config.json. Take another size of the model.`);
  };
  if (!hub.do_layer_norm_before) refuse("norms must stand before their layers", "do_layer_norm_before false");
  if (hub._remove_final_layer_norm) refuse("the last norm must be there", "_remove_final_layer_norm true");
  if (!hub.layer_norm_elementwise_affine) refuse("norms must have gains", "layer_norm_elementwise_affine false");
  if ((hub.word_embed_proj_dim ?? hub.hidden_size) !== hub.hidden_size)
    refuse("embeddings must be as wide as the model", `word_embed_proj_dim ${hub.word_embed_proj_dim}`);
  const heads = hub.num_attention_heads;
  const headDim = hub.hidden_size / heads;
  if (!Number.isInteger(headDim) || headDim > 256) {
    throw new HeedError(
      "BAD_FILE",
      `opt: hidden_size must be a multiple of num_attention_heads, the head size at most 256; got ${hub.hidden_size} / ${heads}.`,
    );
  }
  return {
    vocabSize: hub.vocab_size,
    contextLength: hub.max_position_embeddings,
    layers: hub.num_hidden_layers,
    heads,
    kvHeads: heads,
    headDim,
    width: hub.hidden_size,
    feedForwardWidth: hub.ffn_dim,
    normEps: 1e-5,
    activation: activationFromHub("opt", hub.activation_function),
    tied: hub.tie_word_embeddings,
    biased: hub.enable_bias,
  };
}
