import { gatedDecoder } from "../gated_decoder.ts";
import { gemmaRules } from "../gemma_decoder.ts";
import { parseGemma3 } from "./config.ts";

/**
 * Gemma 3 (arXiv 2503.19786 §2): Gemma 2 with norms of heads in place of the soft cap of scores, five layers with a window to
 * one without, and two rotary bases. Models that see pictures are run on text alone.
 */
export const gemma3 = gatedDecoder({
  name: "gemma3",
  modelTypes: ["gemma3", "gemma3_text"],
  prefixes: ["language_model.model.", "model.language_model."],
  ignored: [/^(model\.)?(vision_tower|multi_modal_projector)\./, /^language_model\.lm_head\.weight$/],
  parse: parseGemma3,
  rules: gemmaRules,
});
