import { joinedRules, matrixRule, normRules } from "../rules.ts";
import type { BloomConfig } from "./config.ts";

/** Where a BLOOM checkpoint keeps its weights. q, k and v of a head stand together in one matrix. */
export function bloomRules(c: BloomConfig) {
  return {
    tokens: matrixRule("word_embeddings.weight", c.vocabSize, c.width),
    embeddingNorm: normRules("word_embeddings_layernorm", c.width),
    blocks: Array.from({ length: c.layers }, (_, i) => blockRules(c, `h.${i}`)),
    norm: normRules("ln_f", c.width),
    head: c.tied ? undefined : matrixRule("lm_head.weight", c.vocabSize, c.width),
  };
}

export type BloomRules = ReturnType<typeof bloomRules>;

function blockRules(c: BloomConfig, block: string) {
  const perHead = { heads: c.heads, parts: 3 };
  const fused = joinedRules([`${block}.self_attention.query_key_value`], [3 * c.width], c.width, true);
  return {
    norm1: normRules(`${block}.input_layernorm`, c.width),
    qkv: { weight: { ...fused.weight, perHead }, bias: fused.bias && { ...fused.bias, perHead } },
    out: joinedRules([`${block}.self_attention.dense`], [c.width], c.width, true),
    norm2: normRules(`${block}.post_attention_layernorm`, c.width),
    up: joinedRules([`${block}.mlp.dense_h_to_4h`], [c.feedForwardWidth], c.width, true),
    down: joinedRules([`${block}.mlp.dense_4h_to_h`], [c.width], c.feedForwardWidth, true),
  };
}
