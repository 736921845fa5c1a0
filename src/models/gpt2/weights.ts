import type { WeightRule } from "../family.ts";
import { matrixRule, normRules, vectorRule } from "../rules.ts";
import type { Gpt2Config } from "./config.ts";

/** Where a GPT-2 checkpoint keeps its weights. Its linear layers ("Conv1D") are stored `[in, out]`. */
export function gpt2Rules(c: Gpt2Config) {
  return {
    tokens: matrixRule("wte.weight", c.vocabSize, c.width),
    positions: matrixRule("wpe.weight", c.contextLength, c.width),
    blocks: Array.from({ length: c.layers }, (_, i) => ({
      norm1: normRules(`h.${i}.ln_1`, c.width),
      qkv: conv1d(`h.${i}.attn.c_attn`, 3 * c.width, c.width),
      out: conv1d(`h.${i}.attn.c_proj`, c.width, c.width),
      norm2: normRules(`h.${i}.ln_2`, c.width),
      up: conv1d(`h.${i}.mlp.c_fc`, c.feedForwardWidth, c.width),
      down: conv1d(`h.${i}.mlp.c_proj`, c.width, c.feedForwardWidth),
    })),
    norm: normRules("ln_f", c.width),
    head: c.tied ? undefined : matrixRule("lm_head.weight", c.vocabSize, c.width),
  };
}

export type Gpt2Rules = ReturnType<typeof gpt2Rules>;

function conv1d(name: string, rows: number, cols: number) {
  const weight: WeightRule = { from: [`${name}.weight`], shape: [rows, cols], role: "matrix", turned: true };
  return { weight, bias: vectorRule(`${name}.bias`, rows) };
}
