import { joinedRules, matrixRule, normRules } from "../rules.ts";
import type { GptNeoxConfig } from "./config.ts";

/** Where a GPT-NeoX checkpoint keeps its weights. q, k and v of a head stand together in one matrix. */
export function gptNeoxRules(c: GptNeoxConfig) {
  return {
    tokens: matrixRule("embed_in.weight", c.vocabSize, c.width),
    blocks: Array.from({ length: c.layers }, (_, i) => blockRules(c, `layers.${i}`)),
    norm: normRules("final_layer_norm", c.width),
    head: c.tied ? undefined : matrixRule("embed_out.weight", c.vocabSize, c.width),
  };
}

export type GptNeoxRules = ReturnType<typeof gptNeoxRules>;

function blockRules(c: GptNeoxConfig, block: string) {
  const perHead = { heads: c.heads, parts: 3 };
  const fused = joinedRules([`${block}.attention.query_key_value`], [3 * c.width], c.width, c.attentionBias);
  return {
    norm1: normRules(`${block}.input_layernorm`, c.width),
    qkv: { weight: { ...fused.weight, perHead }, bias: fused.bias && { ...fused.bias, perHead } },
    out: joinedRules([`${block}.attention.dense`], [c.width], c.width, c.attentionBias),
    norm2: normRules(`${block}.post_attention_layernorm`, c.width),
    up: joinedRules([`${block}.mlp.dense_h_to_4h`], [c.feedForwardWidth], c.width, true),
    down: joinedRules([`${block}.mlp.dense_4h_to_h`], [c.width], c.feedForwardWidth, true),
  };
}
