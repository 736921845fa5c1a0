import { bertEncoder } from "../bert_encoder.ts";
import { bertNames as names } from "../bert_names.ts";
import { parse } from "./config.ts";
import { heads } from "./weights.ts";

/** BERT: "Pre-training of Deep Bidirectional Transformers for Language Understanding", arXiv 1810.04805. */
export const bert = bertEncoder({ name: "bert", prefixes: ["bert."], parse, names, heads, pooler: "pooler.dense" });
