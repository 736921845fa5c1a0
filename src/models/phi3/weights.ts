import { type GatedConfig, type GatedRules, gatedRules } from "../gated_decoder.ts";
import { joinedRules } from "../rules.ts";

/** Where Llama has them, but q, k and v are one matrix of the checkpoint, and so are gate and up. */
export function phi3Rules(c: GatedConfig): GatedRules {
  const rules = gatedRules(c);
  const fused = (name: string, rows: number) => joinedRules([name], [rows], c.width, false);
  return {
    ...rules,
    blocks: rules.blocks.map((block, i) => ({
      ...block,
      qkv: fused(`layers.${i}.self_attn.qkv_proj`, (c.heads + 2 * c.kvHeads) * c.headDim),
      gateUp: fused(`layers.${i}.mlp.gate_up_proj`, 2 * c.feedForwardWidth),
    })),
  };
}
