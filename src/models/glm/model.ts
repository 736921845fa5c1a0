import { gatedDecoder } from "../gated_decoder.ts";
import { parseGlm } from "./config.ts";
import { glmRules } from "./weights.ts";

/**
 * GLM-4 (arXiv 2406.12793 §2): Llama's block with biases on q, k and v, in which half of each head's channels turn by pairs
 * of neighbours; the 0414 models (`glm4`) norm outputs too. With a prefix length it is the prefix decoder of arXiv 2103.10360.
 */
export const glm = gatedDecoder({ name: "glm", modelTypes: ["glm", "glm4"], parse: parseGlm, rules: glmRules });
