import * as v from "valibot";
import { type GatedConfig, parseGated } from "../gated_decoder.ts";
import { parseConfig } from "../hub_config.ts";

const schema = v.object({
  attention_bias: v.optional(v.boolean(), false),
  mlp_bias: v.optional(v.boolean(), false),
});

/** Biases, which no published Llama has and some of its relatives do, are the config's to say. */
export function parseLlama(fields: Readonly<Record<string, unknown>>): GatedConfig {
  const { attention_bias: attention, mlp_bias: feedForward } = parseConfig("llama", schema, fields);
  return { ...parseGated("llama", fields), biases: { qkv: attention, out: attention, feedForward } };
}
