import { gatedDecoder } from "../gated_decoder.ts";
import { parseQwen3 } from "./config.ts";

/** Qwen3 (arXiv 2505.09388 §2): Llama's block with an RMS norm on each query and key head, before it is turned. */
export const qwen3 = gatedDecoder({ name: "qwen3", parse: parseQwen3 });
