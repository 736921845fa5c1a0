import * as v from "valibot";
import { parseConfig } from "../hub_config.ts";
import { parsePlain, type PlainEncoderDecoderConfig } from "../plain_encoder_decoder.ts";

/**
 * The config.json of a transformer of Heed's own, in the names that Marian's and BART's configs use: `model_type`
 * "transformer", `vocab_size`, `d_model`, `encoder_layers`, `decoder_layers`, `encoder_attention_heads`,
 * `decoder_attention_heads`, `encoder_ffn_dim`, `decoder_ffn_dim`, `max_position_embeddings`, `decoder_start_token_id`, and
 * optionally `activation_function` (relu) and `attention_bias` (false: the paper's projections have none). Embeddings are
 * always shared by both sides and the output, and scaled by √C.
 */
export function parseTransformer(fields: Readonly<Record<string, unknown>>): PlainEncoderDecoderConfig {
  const { attention_bias: attentionBias } = parseConfig("transformer", schema, fields);
  return parsePlain(
    "transformer",
    { ...fields, scale_embedding: true },
    {
      normFirst: false,
      positions: { kind: "sinusoidal", layout: "interleaved" },
      attentionBias,
      ...{ embeddingNorm: false, finalNorm: false, logitsBias: false },
    },
  );
}

// Fields of other families that would change the model must not be passed over.
const schema = v.object({
  attention_bias: v.optional(v.boolean(), false),
  scale_embedding: v.optional(v.literal(true), true),
});
