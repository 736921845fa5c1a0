import { convRules, joinedRules, matrixRule, normRules } from "../rules.ts";
import type { WhisperConfig } from "./config.ts";

/** Where a Whisper checkpoint keeps its weights. Keys alone have no biases. */
export function whisperRules(c: WhisperConfig) {
  const { width, encoder } = c;
  return {
    conv1: convRules("encoder.conv1", { rows: width, channels: c.mels, kernel: 3, biased: true }),
    conv2: convRules("encoder.conv2", { rows: width, channels: width, kernel: 3, biased: true }),
    sourcePositions: matrixRule("encoder.embed_positions.weight", encoder.contextLength, width),
    encoder: Array.from({ length: encoder.layers }, (_, i) =>
      blockRules(`encoder.layers.${i}`, width, encoder.feedForwardWidth),
    ),
    encoderNorm: normRules("encoder.layer_norm", width),
    tokens: matrixRule("decoder.embed_tokens.weight", c.vocabSize, width),
    positions: matrixRule("decoder.embed_positions.weight", c.contextLength, width),
    decoder: Array.from({ length: c.layers }, (_, i) => ({
      ...blockRules(`decoder.layers.${i}`, width, c.feedForwardWidth),
      cross: crossRules(`decoder.layers.${i}.encoder_attn`, width),
    })),
    norm: normRules("decoder.layer_norm", width),
  };
}

export type WhisperRules = ReturnType<typeof whisperRules>;

function blockRules(block: string, width: number, inner: number) {
  const square = (name: string, biased = true) => joinedRules([`${block}.${name}`], [width], width, biased);
  return {
    qkv: {
      q: square("self_attn.q_proj"),
      k: square("self_attn.k_proj", false),
      v: square("self_attn.v_proj"),
    },
    out: square("self_attn.out_proj"),
    attentionNorm: normRules(`${block}.self_attn_layer_norm`, width),
    up: joinedRules([`${block}.fc1`], [inner], width, true),
    down: joinedRules([`${block}.fc2`], [width], inner, true),
    feedForwardNorm: normRules(`${block}.final_layer_norm`, width),
  };
}

function crossRules(name: string, width: number) {
  const square = (part: string, biased = true) => joinedRules([`${name}.${part}_proj`], [width], width, biased);
  return {
    q: square("q"),
    keyValue: { k: square("k", false), v: square("v") },
    out: square("out"),
    norm: normRules(`${name}_layer_norm`, width),
  };
}
