import { type GatedRules, gatedRules } from "../gated_decoder.ts";
import { joinedRules, vectorRule } from "../rules.ts";
import type { GlmConfig } from "./config.ts";

/** Where Llama has them, but gate and up are one matrix; GLM-4 0414 norms what attention and feed-forward add. */
export function glmRules(c: GlmConfig): GatedRules {
  const rules = gatedRules(c);
  const postNorm = (name: string) => (c.postNorms ? vectorRule(`${name}.weight`, c.width) : undefined);
  return {
    ...rules,
    blocks: rules.blocks.map((block, i) => ({
      ...block,
      gateUp: joinedRules([`layers.${i}.mlp.gate_up_proj`], [2 * c.feedForwardWidth], c.width, false),
      attentionPostNorm: postNorm(`layers.${i}.post_self_attn_layernorm`),
      feedForwardPostNorm: postNorm(`layers.${i}.post_mlp_layernorm`),
    })),
  };
}
