import * as v from "valibot";
import { HeedError } from "../../core/errors.ts";
import { type BertConfig, parseBert } from "../bert_encoder.ts";
import { count, parseConfig } from "../hub_config.ts";

const schema = v.object({
  embedding_size: v.optional(count(65536), 128),
  num_hidden_groups: v.optional(count(512), 1),
  inner_group_num: v.optional(count(64), 1),
  hidden_act: v.optional(v.string(), "gelu_new"),
});

/** ALBERT (arXiv 1909.11942 §3.1): factorised embeddings, and layers that share their weights. */
export function parse(fields: Readonly<Record<string, unknown>>): BertConfig {
  const hub = parseConfig("albert", schema, fields);
  const config = parseBert("albert", { ...fields, hidden_act: hub.hidden_act });
  const { num_hidden_groups: groups, inner_group_num: inner } = hub;
  if (inner !== 1) {
    throw new HeedError(
      "UNSUPPORTED",
      `albert: a group must have one layer; got inner_group_num ${inner} in config.json. Take another checkpoint.`,
    );
  }
  return {
    ...config,
    tokenWidth: hub.embedding_size,
    blockOf: config.blockOf.map((layer) => Math.floor((layer * groups) / config.layers)),
  };
}
