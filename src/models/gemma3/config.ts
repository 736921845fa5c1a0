import * as v from "valibot";
import { rotaryFromHub } from "../../nn/rotary.ts";
import type { GatedConfig } from "../gated_decoder.ts";
import { parseGemma } from "../gemma_decoder.ts";
import { parseConfig } from "../hub_config.ts";

const rope = v.nullish(v.record(v.string(), v.unknown()));
const schema = v.object({
  rope_theta: v.optional(v.number(), 1_000_000),
  rope_local_base_freq: v.optional(v.number(), 10_000),
  rope_scaling: rope,
  rope_parameters: v.nullish(v.object({ full_attention: rope, sliding_attention: rope })),
  text_config: v.nullish(v.record(v.string(), v.unknown())),
});

/**
 * Heads are normed; layers with a window turn by an own, shorter base. Of a model that sees pictures too, the part that reads
 * text is described by `text_config`.
 */
export function parseGemma3(given: Readonly<Record<string, unknown>>): GatedConfig {
  const { text_config } = parseConfig("gemma3", schema, given);
  const fields = text_config ? { tie_word_embeddings: given.tie_word_embeddings ?? true, ...text_config } : given;
  const hub = parseConfig("gemma3", schema, fields);
  const { full_attention, sliding_attention } = hub.rope_parameters ?? {};
  const config = parseGemma(
    "gemma3",
    { ...fields, rope_parameters: full_attention ?? null, rope_theta: hub.rope_theta },
    { pattern: 6, vocab_size: 262208, max_position_embeddings: 131072 },
  );
  const local = { rope_theta: hub.rope_local_base_freq, rope_parameters: sliding_attention };
  return {
    ...config,
    headNorms: true,
    localRotary: rotaryFromHub("gemma3", { ...local, max_position_embeddings: config.contextLength }, config.headDim),
  };
}
