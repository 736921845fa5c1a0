import { gatedDecoder } from "../gated_decoder.ts";
import { parseLlama } from "./config.ts";

/**
 * Llama (arXiv 2302.13971 §2.2, 2307.09288, 2407.21783) and what shares its block: SmolLM, TinyLlama. Its forward pass is
 * `nn/blocks/gated_block.ts`, its weights `gatedRules`.
 */
export const llama = gatedDecoder({ name: "llama", parse: parseLlama });
