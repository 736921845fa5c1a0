import { gatedDecoder } from "../gated_decoder.ts";
import { gemmaRules } from "../gemma_decoder.ts";
import { parseGemma2 } from "./config.ts";

/** Gemma 2 (arXiv 2408.00118 §2): Llama's block with norms of outputs too, soft caps, and windows in every other layer. */
export const gemma2 = gatedDecoder({ name: "gemma2", parse: parseGemma2, rules: gemmaRules });
