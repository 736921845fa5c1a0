import { gatedDecoder } from "../gated_decoder.ts";
import { parseQwen2 } from "./config.ts";

/** Qwen2 and Qwen2.5 (arXiv 2407.10671 §2.2.1): Llama's block with biases on q, k and v. */
export const qwen2 = gatedDecoder({ name: "qwen2", parse: parseQwen2 });
