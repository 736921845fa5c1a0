import { bertEncoder } from "../bert_encoder.ts";
import { parse } from "./config.ts";
import { heads, names } from "./weights.ts";

/** DistilBERT: "a distilled version of BERT", arXiv 1910.01108: fewer layers, no segments, no pooler. */
export const distilbert = bertEncoder({ name: "distilbert", prefixes: ["distilbert."], parse, names, heads });
