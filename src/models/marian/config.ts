import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import { count, parseConfig } from "../hub_config.ts";
import { parsePlain, type PlainEncoderDecoderConfig } from "../plain_encoder_decoder.ts";

const schema = v.object({
  vocab_size: count(1 << 22),
  decoder_vocab_size: v.nullish(count(1 << 22)),
  share_encoder_decoder_embeddings: v.optional(v.boolean(), true),
  static_position_embeddings: v.optional(v.boolean(), true),
  normalize_before: v.optional(v.boolean(), false),
  normalize_embedding: v.optional(v.boolean(), false),
  add_final_layer_norm: v.optional(v.boolean(), false),
  pad_token_id: v.nullish(v.number()),
  decoder_start_token_id: v.nullish(v.number()),
});

/** Marian's config: as the 2017 model, with biases, and positions whose sines stand before their cosines. */
export function parseMarian(fields: Readonly<Record<string, unknown>>): PlainEncoderDecoderConfig {
  const hub = parseConfig("marian", schema, fields);
  for (const name of ["normalize_before", "normalize_embedding", "add_final_layer_norm"] as const) {
    if (hub[name]) throw new HeedError("UNSUPPORTED", `marian: ${name} true in config.json is not supported.`);
  }
  const separate = !hub.share_encoder_decoder_embeddings;
  const start = hub.decoder_start_token_id ?? hub.pad_token_id;
  const size = separate ? (hub.decoder_vocab_size ?? hub.vocab_size) : hub.vocab_size;
  const plain = parsePlain(
    "marian",
    // transformers' default; published checkpoints name theirs.
    { activation_function: "gelu", ...fields, vocab_size: size, decoder_start_token_id: start },
    {
      ...{ normFirst: false, attentionBias: true, embeddingNorm: false, finalNorm: false, logitsBias: true },
      positions: { kind: "sinusoidal", layout: "halves" },
    },
  );
  return separate ? { ...plain, sourceVocabSize: hub.vocab_size } : plain;
}
