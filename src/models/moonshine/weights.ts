import type { WeightRule } from "../family.ts";
import { convRules, joinedRules, matrixRule, normRules, vectorRule } from "../rules.ts";
import type { MoonshineConfig } from "./config.ts";

/** The front end: kernels and strides of its three convolutions. */
export const CONVOLUTIONS = [
  { kernel: 127, stride: 64 },
  { kernel: 7, stride: 3 },
  { kernel: 3, stride: 2 },
] as const;

/** Where a Moonshine checkpoint keeps its weights. Norms have no biases. */
export function moonshineRules(c: MoonshineConfig) {
  const { width, feedForwardWidth: inner } = c;
  const [first, second, third] = CONVOLUTIONS;
  return {
    conv1: convRules("encoder.conv1", { rows: width, channels: 1, kernel: first.kernel, biased: false }),
    groupNorm: normRules("encoder.groupnorm", width),
    conv2: convRules("encoder.conv2", { rows: 2 * width, channels: width, kernel: second.kernel, biased: true }),
    conv3: convRules("encoder.conv3", { rows: width, channels: 2 * width, kernel: third.kernel, biased: true }),
    encoder: Array.from({ length: c.encoder.layers }, (_, i) => ({
      ...selfRules(c, `encoder.layers.${i}`),
      norm2: gain(`encoder.layers.${i}.post_attention_layernorm`, width),
      ...feedForwardRules(`encoder.layers.${i}.mlp`, width, [inner, inner]),
    })),
    encoderNorm: gain("encoder.layer_norm", width),
    tokens: matrixRule("decoder.embed_tokens.weight", c.vocabSize, width),
    decoder: Array.from({ length: c.layers }, (_, i) => ({
      ...selfRules(c, `decoder.layers.${i}`),
      norm2: gain(`decoder.layers.${i}.post_attention_layernorm`, width),
      cross: crossRules(c, `decoder.layers.${i}.encoder_attn`),
      norm3: gain(`decoder.layers.${i}.final_layernorm`, width),
      ...feedForwardRules(`decoder.layers.${i}.mlp`, width, [2 * inner, inner]),
    })),
    norm: gain("decoder.norm", width),
  };
}

export type MoonshineRules = ReturnType<typeof moonshineRules>;

function gain(name: string, width: number): WeightRule {
  return vectorRule(`${name}.weight`, width);
}

function selfRules({ width, heads, kvHeads, headDim, attentionBias }: MoonshineConfig, block: string) {
  const names = ["q", "k", "v"].map((p) => `${block}.self_attn.${p}_proj`);
  const [query, keyValue] = [heads * headDim, kvHeads * headDim];
  return {
    norm1: gain(`${block}.input_layernorm`, width),
    qkv: joinedRules(names, [query, keyValue, keyValue], width, attentionBias),
    out: joinedRules([`${block}.self_attn.o_proj`], [width], query, false),
  };
}

function crossRules({ width, heads, kvHeads, headDim, attentionBias }: MoonshineConfig, name: string) {
  const [query, keyValue] = [heads * headDim, kvHeads * headDim];
  return {
    q: joinedRules([`${name}.q_proj`], [query], width, attentionBias),
    keyValue: joinedRules([`${name}.k_proj`, `${name}.v_proj`], [keyValue, keyValue], width, attentionBias),
    out: joinedRules([`${name}.o_proj`], [width], query, false),
  };
}

function feedForwardRules(name: string, width: number, [up, down]: readonly [number, number]) {
  return {
    up: joinedRules([`${name}.fc1`], [up], width, true),
    down: joinedRules([`${name}.fc2`], [width], down, true),
  };
}
