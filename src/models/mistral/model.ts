import { gatedDecoder } from "../gated_decoder.ts";
import { parseMistral } from "./config.ts";

/** Mistral (arXiv 2310.06825 §2): Llama's block, in which attention sees a sliding window. */
export const mistral = gatedDecoder({ name: "mistral", parse: parseMistral });
