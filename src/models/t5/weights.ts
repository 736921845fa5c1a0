import type { WeightRule } from "../family.ts";
import { joinedRules, matrixRule, vectorRule } from "../rules.ts";
import type { T5Config } from "./config.ts";

/** Where a T5 checkpoint keeps its weights. */
export function t5Rules(c: T5Config) {
  return {
    tokens: matrixRule("shared.weight", c.vocabSize, c.width),
    encoder: {
      relativeBias: relativeBiasRule(c, "encoder"),
      blocks: Array.from({ length: c.encoder.layers }, (_, i) => sublayerRules(c, `encoder.block.${i}.layer`, 1)),
      norm: vectorRule("encoder.final_layer_norm.weight", c.width),
    },
    decoder: {
      relativeBias: relativeBiasRule(c, "decoder"),
      blocks: Array.from({ length: c.layers }, (_, i) => ({
        ...sublayerRules(c, `decoder.block.${i}.layer`, 2),
        cross: crossRules(c, `decoder.block.${i}.layer.1`),
      })),
      norm: vectorRule("decoder.final_layer_norm.weight", c.width),
    },
    head: c.tied ? undefined : { ...matrixRule("lm_head.weight", c.vocabSize, c.width), or: ["shared.weight"] },
  };
}

/** `[buckets, H]`, which the first block holds for all. */
function relativeBiasRule({ buckets, heads }: T5Config, side: "encoder" | "decoder"): WeightRule {
  const name = `${side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight`;
  return { from: [name], shape: [buckets, heads], role: "vector" };
}

function sublayerRules(c: T5Config, layer: string, last: number) {
  const inner = c.heads * c.headDim;
  const qkv = ["q", "k", "v"].map((p) => `${layer}.0.SelfAttention.${p}`);
  const dense = `${layer}.${last}.DenseReluDense`;
  const up = c.gated ? [`${dense}.wi_0`, `${dense}.wi_1`] : [`${dense}.wi`];
  const { feedForwardWidth } = c;
  return {
    attentionNorm: vectorRule(`${layer}.0.layer_norm.weight`, c.width),
    qkv: joinedRules(qkv, [inner, inner, inner], c.width, false),
    out: joinedRules([`${layer}.0.SelfAttention.o`], [c.width], inner, false),
    feedForwardNorm: vectorRule(`${layer}.${last}.layer_norm.weight`, c.width),
    up: joinedRules(
      up,
      up.map(() => feedForwardWidth),
      c.width,
      false,
    ),
    down: joinedRules([`${dense}.wo`], [c.width], feedForwardWidth, false),
  };
}

function crossRules(c: T5Config, layer: string) {
  const inner = c.heads * c.headDim;
  const name = (p: string) => `${layer}.EncDecAttention.${p}`;
  return {
    norm: vectorRule(`${layer}.layer_norm.weight`, c.width),
    q: joinedRules([name("q")], [inner], c.width, false),
    keyValue: joinedRules([name("k"), name("v")], [inner, inner], c.width, false),
    out: joinedRules([name("o")], [c.width], inner, false),
  };
}

export type T5Rules = ReturnType<typeof t5Rules>;
