import { type BertConfig, parseBert } from "../bert_encoder.ts";

/** BERT (arXiv 1810.04805). */
export function parse(fields: Readonly<Record<string, unknown>>): BertConfig {
  return parseBert("bert", fields);
}
