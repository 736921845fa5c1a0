import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import type { SublayerConfig } from "../../nn/blocks/sublayers.ts";
import type { EncoderDecoderFacts } from "../family.ts";
import { activationFromHub, count, MAX_LAYERS, parseConfig } from "../hub_config.ts";

/** Whisper (arXiv 2212.04356 §2.2): the 2017 model with norms first, GELU, and sound behind two convolutions. */
export interface WhisperConfig extends EncoderDecoderFacts, SublayerConfig {
  readonly heads: number;
  readonly headDim: number;
  readonly encoder: EncoderDecoderFacts["encoder"] & { readonly feedForwardWidth: number };
  /** C. */
  readonly width: number;
  /** Of the decoder. */
  readonly feedForwardWidth: number;
  /** Bands of the features. */
  readonly mels: number;
  readonly embeddingScale: number;
}

const schema = v.object({
  d_model: count(65536),
  encoder_layers: count(MAX_LAYERS),
  decoder_layers: count(MAX_LAYERS),
  encoder_attention_heads: count(1024),
  decoder_attention_heads: count(1024),
  encoder_ffn_dim: count(1 << 20),
  decoder_ffn_dim: count(1 << 20),
  vocab_size: count(1 << 22),
  num_mel_bins: v.optional(count(1024), 80),
  max_source_positions: v.optional(count(1 << 16), 1500),
  max_target_positions: v.optional(count(1 << 16), 448),
  activation_function: v.optional(v.string(), "gelu"),
  scale_embedding: v.optional(v.boolean(), false),
  decoder_start_token_id: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 50257),
  tie_word_embeddings: v.optional(v.boolean(), true),
});

export function parseWhisper(fields: Readonly<Record<string, unknown>>): WhisperConfig {
  const hub = parseConfig("whisper", schema, fields);
  const heads = hub.decoder_attention_heads;
  const [headDim, encoderHeadDim] = [hub.d_model / heads, hub.d_model / hub.encoder_attention_heads];
  if (!Number.isInteger(headDim) || !Number.isInteger(encoderHeadDim) || Math.max(headDim, encoderHeadDim) > 256) {
    throw new HeedError(
      "BAD_FILE",
      `whisper: d_model must be a multiple of the heads, the head size at most 256; got ${hub.d_model}, ${hub.encoder_attention_heads} and ${heads}. Check config.json.`,
    );
  }
  if (!hub.tie_word_embeddings) {
    throw new HeedError(
      "UNSUPPORTED",
      "whisper: the output matrix must be the decoder's embedding; got tie_word_embeddings false in config.json.",
    );
  }
  return {
    vocabSize: hub.vocab_size,
    contextLength: hub.max_target_positions,
    layers: hub.decoder_layers,
    ...{ heads, kvHeads: heads, headDim },
    width: hub.d_model,
    feedForwardWidth: hub.decoder_ffn_dim,
    encoder: {
      contextLength: hub.max_source_positions,
      layers: hub.encoder_layers,
      heads: hub.encoder_attention_heads,
      feedForwardWidth: hub.encoder_ffn_dim,
    },
    decoderStart: hub.decoder_start_token_id,
    mels: hub.num_mel_bins,
    normEps: 1e-5,
    normFirst: true,
    activation: activationFromHub("whisper", hub.activation_function),
    embeddingScale: hub.scale_embedding ? Math.sqrt(hub.d_model) : 1,
  };
}
