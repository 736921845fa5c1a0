import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import type { ActivationName } from "../../ops/activation_parts.ts";
import type { DecoderFacts } from "../family.ts";
import { activationFromHub, count, MAX_LAYERS, parseConfig } from "../hub_config.ts";

/** GPT-2 ("Language Models are Unsupervised Multitask Learners", §2.3). */
export interface Gpt2Config extends DecoderFacts {
  readonly width: number;
  readonly feedForwardWidth: number;
  readonly heads: number;
  readonly normEps: number;
  readonly activation: ActivationName;
  readonly tied: boolean;
}

const schema = v.object({
  n_embd: count(65536),
  n_layer: count(MAX_LAYERS),
  n_head: count(1024),
  n_inner: v.nullish(count(1 << 20)),
  n_positions: count(1 << 24),
  vocab_size: count(1 << 22),
  layer_norm_epsilon: v.optional(v.number(), 1e-5),
  activation_function: v.optional(v.string(), "gelu_new"),
  tie_word_embeddings: v.optional(v.boolean(), true),
  scale_attn_weights: v.optional(v.boolean(), true),
  scale_attn_by_inverse_layer_idx: v.optional(v.boolean(), false),
  reorder_and_upcast_attn: v.optional(v.boolean(), false),
});

export function parseGpt2(fields: Readonly<Record<string, unknown>>): Gpt2Config {
  const hub = parseConfig("gpt2", schema, fields);
  if (!hub.scale_attn_weights || hub.scale_attn_by_inverse_layer_idx) {
    throw new HeedError(
      "UNSUPPORTED",
      "gpt2: scores are scaled by 1/√D only; got scale_attn_weights false or scale_attn_by_inverse_layer_idx true in config.json.",
    );
  }
  const headDim = hub.n_embd / hub.n_head;
  if (!Number.isInteger(headDim) || headDim > 256) {
    throw new HeedError(
      "BAD_FILE",
      `gpt2: n_embd must be a multiple of n_head, the head size at most 256; got ${hub.n_embd} / ${hub.n_head}.`,
    );
  }
  return {
    vocabSize: hub.vocab_size,
    contextLength: hub.n_positions,
    layers: hub.n_layer,
    kvHeads: hub.n_head,
    headDim,
    width: hub.n_embd,
    feedForwardWidth: hub.n_inner ?? 4 * hub.n_embd,
    heads: hub.n_head,
    normEps: hub.layer_norm_epsilon,
    activation: activationFromHub("gpt2", hub.activation_function),
    tied: hub.tie_word_embeddings,
  };
}
