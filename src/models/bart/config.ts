import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import { parseConfig } from "../hub_config.ts";
import { parsePlain, type PlainEncoderDecoderConfig } from "../plain_encoder_decoder.ts";

/** Rows of the position tables before that of position 0: fairseq kept them for padding. */
const POSITION_OFFSET = 2;
const DEFAULT_END = 2;

const schema = v.object({
  model_type: v.picklist(["bart", "mbart"]),
  normalize_before: v.optional(v.boolean()),
  add_final_layer_norm: v.optional(v.boolean()),
  normalize_embedding: v.optional(v.boolean(), true),
  eos_token_id: v.nullish(v.number()),
  decoder_start_token_id: v.nullish(v.number()),
});

/** BART's config, and mBART's, whose norms stand first and which ends each side with one more. */
export function parseBart(fields: Readonly<Record<string, unknown>>): PlainEncoderDecoderConfig {
  const hub = parseConfig("bart", schema, fields);
  const normFirst = hub.model_type === "mbart";
  const refuse = (name: string, got: boolean) => {
    throw new HeedError("UNSUPPORTED", `${hub.model_type}: ${name} ${got} in config.json is not supported.`);
  };
  for (const name of ["normalize_before", "add_final_layer_norm"] as const) {
    if ((hub[name] ?? normFirst) !== normFirst) refuse(name, !normFirst);
  }
  if (!hub.normalize_embedding) refuse("normalize_embedding", false);
  const start = hub.decoder_start_token_id ?? hub.eos_token_id ?? DEFAULT_END;
  return parsePlain(
    hub.model_type,
    { activation_function: "gelu", ...fields, decoder_start_token_id: start },
    {
      ...{ normFirst, finalNorm: normFirst, attentionBias: true, embeddingNorm: true, logitsBias: true },
      positions: { kind: "learned", offset: POSITION_OFFSET },
    },
  );
}
