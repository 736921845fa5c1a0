import { bertEncoder } from "../bert_encoder.ts";
import { bertNames as names } from "../bert_names.ts";
import { parse } from "./config.ts";
import { heads } from "./weights.ts";

/** RoBERTa (arXiv 1907.11692) and XLM-RoBERTa (arXiv 1911.02116): BERT with other positions, and heads of their own. */
export const roberta = bertEncoder({
  name: "roberta",
  modelTypes: ["roberta", "xlm-roberta", "camembert"],
  prefixes: ["roberta."],
  ...{ parse, names, heads },
  pooler: "pooler.dense",
});
