import type { WeightRule } from "../family.ts";
import type { Gpt2Config } from "./config.ts";

/** Where a GPT-2 checkpoint keeps its weights. Its linear layers ("Conv1D") are stored `[in, out]`. */
export function gpt2Rules(c: Gpt2Config) {
  const table = (name: string, rows: number): WeightRule => ({ from: [name], shape: [rows, c.width], role: "matrix" });
  return {
    tokens: table("wte.weight", c.vocabSize),
    positions: table("wpe.weight", c.contextLength),
    blocks: Array.from({ length: c.layers }, (_, i) => ({
      norm1: norm(`h.${i}.ln_1`, c.width),
      qkv: conv1d(`h.${i}.attn.c_attn`, 3 * c.width, c.width),
      out: conv1d(`h.${i}.attn.c_proj`, c.width, c.width),
      norm2: norm(`h.${i}.ln_2`, c.width),
      up: conv1d(`h.${i}.mlp.c_fc`, c.feedForwardWidth, c.width),
      down: conv1d(`h.${i}.mlp.c_proj`, c.width, c.feedForwardWidth),
    })),
    norm: norm("ln_f", c.width),
    head: c.tied ? undefined : table("lm_head.weight", c.vocabSize),
  };
}

export type Gpt2Rules = ReturnType<typeof gpt2Rules>;

function vector(name: string, size: number): WeightRule {
  return { from: [name], shape: [size], role: "vector" };
}

function norm(name: string, width: number) {
  return { weight: vector(`${name}.weight`, width), bias: vector(`${name}.bias`, width) };
}

function conv1d(name: string, rows: number, cols: number) {
  const weight: WeightRule = { from: [`${name}.weight`], shape: [rows, cols], role: "matrix", turned: true };
  return { weight, bias: vector(`${name}.bias`, rows) };
}
