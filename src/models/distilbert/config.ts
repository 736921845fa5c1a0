import * as v from "valibot";
import { type BertConfig, parseBert } from "../bert_encoder.ts";
import { count, MAX_LAYERS, parseConfig } from "../hub_config.ts";

const schema = v.object({
  dim: count(65536),
  hidden_dim: count(1 << 20),
  n_layers: count(MAX_LAYERS),
  n_heads: count(1024),
  activation: v.optional(v.string(), "gelu"),
});

/** DistilBERT (arXiv 1910.01108 §3): BERT without segments, under names of its own. */
export function parse(fields: Readonly<Record<string, unknown>>): BertConfig {
  const { dim, hidden_dim, n_layers, n_heads, activation } = parseConfig("distilbert", schema, fields);
  return parseBert("distilbert", {
    ...fields,
    ...{ hidden_size: dim, intermediate_size: hidden_dim, num_hidden_layers: n_layers, num_attention_heads: n_heads },
    ...{ hidden_act: activation, type_vocab_size: 0 },
  });
}
