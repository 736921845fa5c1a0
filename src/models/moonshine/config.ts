import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import { type RotaryConfig, rotaryFromHub } from "../../nn/rotary.ts";
import type { ActivationName } from "../../ops/activation_parts.ts";
import type { EncoderDecoderFacts } from "../family.ts";
import { activationFromHub, count, MAX_LAYERS, parseConfig } from "../hub_config.ts";

/** Moonshine (arXiv 2410.15608 §3). */
export interface MoonshineConfig extends EncoderDecoderFacts {
  /** C. */
  readonly width: number;
  readonly feedForwardWidth: number;
  readonly rotary: RotaryConfig;
  readonly encoderActivation: ActivationName;
  readonly decoderActivation: ActivationName;
  readonly attentionBias: boolean;
}

const schema = v.object({
  hidden_size: count(65536),
  intermediate_size: count(1 << 20),
  encoder_num_hidden_layers: count(MAX_LAYERS),
  decoder_num_hidden_layers: count(MAX_LAYERS),
  encoder_num_attention_heads: count(1024),
  decoder_num_attention_heads: count(1024),
  encoder_num_key_value_heads: v.nullish(count(1024)),
  decoder_num_key_value_heads: v.nullish(count(1024)),
  encoder_hidden_act: v.optional(v.string(), "gelu"),
  decoder_hidden_act: v.optional(v.string(), "silu"),
  vocab_size: count(1 << 22),
  max_position_embeddings: v.optional(count(1 << 20), 512),
  partial_rotary_factor: v.optional(v.number(), 0.9),
  rope_theta: v.optional(v.number(), 10000),
  rope_scaling: v.nullish(v.record(v.string(), v.unknown())),
  rope_parameters: v.nullish(v.record(v.string(), v.unknown())),
  attention_bias: v.optional(v.boolean(), false),
  decoder_start_token_id: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 1),
  tie_word_embeddings: v.optional(v.boolean(), true),
});

/** Rows of sound that the encoder takes at most: some 36 seconds. The paper's recordings have 4 to 30. */
const MOST_FRAMES = 1500;

export function parseMoonshine(fields: Readonly<Record<string, unknown>>): MoonshineConfig {
  const hub = parseConfig("moonshine", schema, fields);
  const heads = hub.decoder_num_attention_heads;
  const kvHeads = hub.decoder_num_key_value_heads ?? heads;
  const headDim = hub.hidden_size / heads;
  const alike = hub.encoder_num_attention_heads === heads && (hub.encoder_num_key_value_heads ?? heads) === kvHeads;
  if (!Number.isInteger(headDim) || headDim > 256 || heads % kvHeads !== 0 || !alike) {
    throw new HeedError(
      "BAD_FILE",
      `moonshine: hidden_size must be a multiple of the heads, of which encoder and decoder have as many; got ${hub.hidden_size}, ${hub.encoder_num_attention_heads} and ${heads}. Check config.json.`,
    );
  }
  if (!hub.tie_word_embeddings) {
    throw new HeedError(
      "UNSUPPORTED",
      "moonshine: the output matrix must be the decoder's embedding; got tie_word_embeddings false in config.json.",
    );
  }
  const rope = { ...hub, rope_scaling: hub.rope_scaling ?? null, rope_parameters: hub.rope_parameters ?? null };
  return {
    vocabSize: hub.vocab_size,
    contextLength: hub.max_position_embeddings,
    layers: hub.decoder_num_hidden_layers,
    ...{ heads, kvHeads, headDim },
    width: hub.hidden_size,
    feedForwardWidth: hub.intermediate_size,
    encoder: { contextLength: MOST_FRAMES, layers: hub.encoder_num_hidden_layers, heads },
    decoderStart: hub.decoder_start_token_id,
    rotary: rotaryFromHub("moonshine", rope, headDim),
    encoderActivation: activationFromHub("moonshine", hub.encoder_hidden_act),
    decoderActivation: activationFromHub("moonshine", hub.decoder_hidden_act),
    attentionBias: hub.attention_bias,
  };
}
