import { joinedRules, matrixRule, normRules } from "../rules.ts";
import type { OptConfig } from "./config.ts";

/** Rows of the position table before that of position 0: fairseq kept them for padding. */
export const POSITION_OFFSET = 2;

/** Where an OPT checkpoint keeps its weights. */
export function optRules(c: OptConfig) {
  const linear = (name: string, rows: number, cols: number) => joinedRules([name], [rows], cols, c.biased);
  return {
    tokens: matrixRule("embed_tokens.weight", c.vocabSize, c.width),
    positions: matrixRule("embed_positions.weight", c.contextLength + POSITION_OFFSET, c.width),
    blocks: Array.from({ length: c.layers }, (_, i) => ({
      norm1: normRules(`layers.${i}.self_attn_layer_norm`, c.width),
      qkv: joinedRules(
        ["q", "k", "v"].map((p) => `layers.${i}.self_attn.${p}_proj`),
        [c.width, c.width, c.width],
        c.width,
        c.biased,
      ),
      out: linear(`layers.${i}.self_attn.out_proj`, c.width, c.width),
      norm2: normRules(`layers.${i}.final_layer_norm`, c.width),
      up: linear(`layers.${i}.fc1`, c.feedForwardWidth, c.width),
      down: linear(`layers.${i}.fc2`, c.width, c.feedForwardWidth),
    })),
    norm: normRules("final_layer_norm", c.width),
    head: c.tied ? undefined : matrixRule("lm_head.weight", c.vocabSize, c.width),
  };
}

export type OptRules = ReturnType<typeof optRules>;
