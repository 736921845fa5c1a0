import { gatedDecoder } from "../gated_decoder.ts";
import { parsePhi3 } from "./config.ts";
import { phi3Rules } from "./weights.ts";

/** Phi-3 and Phi-4 (arXiv 2404.14219 §2): Llama's block from fused matrices; Phi-4-mini turns a part of each head. */
export const phi3 = gatedDecoder({ name: "phi3", parse: parsePhi3, rules: phi3Rules });
