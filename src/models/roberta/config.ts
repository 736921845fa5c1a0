import { type BertConfig, parseBert } from "../bert_encoder.ts";

/** RoBERTa (arXiv 1907.11692): its positions begin after the padding token's, which stands at none of them. */
export function parse(fields: Readonly<Record<string, unknown>>): BertConfig {
  const config = parseBert("roberta", fields);
  const pad = typeof fields["pad_token_id"] === "number" ? fields["pad_token_id"] : 1;
  const positionShift = pad + 1;
  return { ...config, contextLength: config.contextLength - positionShift, positionShift, placelessId: pad };
}
