import type { GatedConfig } from "../gated_decoder.ts";
import { parseGemma } from "../gemma_decoder.ts";

/** Every other layer sees a window; scores and logits are capped at 50 and 30 unless the config says otherwise. */
export function parseGemma2(fields: Readonly<Record<string, unknown>>): GatedConfig {
  const config = parseGemma("gemma2", fields, {
    pattern: 2,
    attn_logit_softcapping: 50,
    final_logit_softcapping: 30,
  });
  return { ...config, rotaryNames: [] };
}
