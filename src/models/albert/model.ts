import { bertEncoder } from "../bert_encoder.ts";
import { parse } from "./config.ts";
import { heads, names } from "./weights.ts";

/** ALBERT: "A Lite BERT for Self-supervised Learning of Language Representations", arXiv 1909.11942. */
export const albert = bertEncoder({ name: "albert", prefixes: ["albert."], parse, names, heads, pooler: "pooler" });
