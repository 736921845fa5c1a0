import type { WeightRule } from "../family.ts";
import type { LlamaConfig } from "./config.ts";

/** Where a Llama checkpoint keeps its weights. Projections of one input are joined: one kernel reads them in one go. */
export function llamaRules(c: LlamaConfig) {
  const query = c.heads * c.headDim;
  const keyValue = c.kvHeads * c.headDim;
  const vector = (name: string, size: number): WeightRule => ({ from: [name], shape: [size], role: "vector" });
  const matrix = (name: string, rows: number, cols: number): WeightRule => ({
    from: [name],
    shape: [rows, cols],
    role: "matrix",
  });
  return {
    embedding: matrix("embed_tokens.weight", c.vocabSize, c.width),
    blocks: Array.from({ length: c.layers }, (_, i) => {
      const attention = `layers.${i}.self_attn`;
      const feedForward = `layers.${i}.mlp`;
      const qkv = ["q", "k", "v"].map((p) => `${attention}.${p}_proj`);
      const gateUp = ["gate", "up"].map((p) => `${feedForward}.${p}_proj`);
      return {
        attentionNorm: vector(`layers.${i}.input_layernorm.weight`, c.width),
        qkv: joined(qkv, [query, keyValue, keyValue], c.width, c.attentionBias),
        out: joined([`${attention}.o_proj`], [c.width], query, c.attentionBias),
        feedForwardNorm: vector(`layers.${i}.post_attention_layernorm.weight`, c.width),
        gateUp: joined(gateUp, [c.feedForwardWidth, c.feedForwardWidth], c.width, c.feedForwardBias),
        down: joined([`${feedForward}.down_proj`], [c.width], c.feedForwardWidth, c.feedForwardBias),
      };
    }),
    norm: vector("norm.weight", c.width),
    head: c.tied ? undefined : matrix("lm_head.weight", c.vocabSize, c.width),
  };
}

export type LlamaRules = ReturnType<typeof llamaRules>;

/** A linear layer, or several of one input as one: weight `[sum of rows, cols]`, and its bias if there is one. */
function joined(names: readonly string[], rows: readonly number[], cols: number, biased: boolean) {
  const total = rows.reduce((a, b) => a + b, 0);
  const weight: WeightRule = { from: names.map((n) => `${n}.weight`), rows, shape: [total, cols], role: "matrix" };
  const bias: WeightRule = { from: names.map((n) => `${n}.bias`), rows, shape: [total], role: "vector" };
  return { weight, bias: biased ? bias : undefined };
}
