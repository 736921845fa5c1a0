import { rotaryTable } from "../../nn/rotary.ts";
import type { DecoderStep } from "../../nn/step.ts";
import { add } from "../../ops/add.ts";
import { embedding } from "../../ops/embedding.ts";
import { gatedActivation } from "../../ops/gated_activation.ts";
import { linear } from "../../ops/linear.ts";
import type { Recorder, Value } from "../../ops/op.ts";
import { rmsNorm } from "../../ops/rms_norm.ts";
import { rope } from "../../ops/rope.ts";
import { sliceColumns } from "../../ops/slice_columns.ts";
import { decoderFamily, type WithLeaf } from "../family.ts";
import { type LlamaConfig, parseLlama } from "./config.ts";
import { type LlamaRules, llamaRules } from "./weights.ts";

type Weights = WithLeaf<LlamaRules, Value>;
type Block = Weights["blocks"][number];

/** Llama: pre-norm blocks, rotary positions, grouped key heads, gated feed-forward (arXiv 2302.13971 §2.2). */
export const llama = decoderFamily<LlamaConfig, LlamaRules>({
  name: "llama",
  modelTypes: ["llama"],
  prefixes: ["model."],
  ignored: [/\.rotary_emb\.inv_freq$/, /^lm_head\.weight$/],
  parse: parseLlama,
  rules: llamaRules,
  constants: (c) => ({
    rotary: { shape: [c.contextLength, c.rotary.rotaryDim / 2, 2], data: rotaryTable(c.rotary, c.contextLength) },
  }),
  hidden(rec, c, w, step) {
    let x = embedding(rec, step.tokens, w.embedding); // [N, C]
    w.blocks.forEach((block, layer) => {
      x = step.block(rec, layer, () => forwardBlock(rec, c, block, step, layer, x));
    });
    return rmsNorm(rec, x, w.norm, { eps: c.normEps });
  },
  logits: (rec, _, w, hidden) => rec.scope("head", () => linear(rec, hidden, w.head ?? w.embedding)), // [M, V]
});

function forwardBlock(rec: Recorder, c: LlamaConfig, w: Block, step: DecoderStep, layer: number, x: Value): Value {
  const attended = rec.scope("attention", () => {
    const h = rmsNorm(rec, x, w.attentionNorm, { eps: c.normEps });
    return attention(rec, c, w, step, layer, h);
  });
  const middle = add(rec, x, attended);
  const fed = rec.scope("feed_forward", () => {
    const h = rmsNorm(rec, middle, w.feedForwardNorm, { eps: c.normEps });
    const gateUp = linear(rec, h, w.gateUp.weight, { bias: w.gateUp.bias }); // [N, 2F]
    return linear(rec, gatedActivation(rec, gateUp, c.activation), w.down.weight, { bias: w.down.bias }); // [N, C]
  });
  return add(rec, middle, fed);
}

function attention(rec: Recorder, c: LlamaConfig, w: Block, step: DecoderStep, layer: number, h: Value): Value {
  const { heads, kvHeads, headDim } = c;
  const query = heads * headDim;
  const keyValue = kvHeads * headDim;
  const qkv = linear(rec, h, w.qkv.weight, { bias: w.qkv.bias }); // [N, (H + 2 Hkv)·D]
  const rotate = (start: number, n: number) =>
    rope(rec, sliceColumns(rec, qkv, start, n * headDim), step.rowTable, {
      table: step.constant("rotary"),
      heads: n,
      headDim,
      rotaryDim: c.rotary.rotaryDim,
      interleaved: false,
    });
  const q = rotate(0, heads); // [N, H·D]
  const k = rotate(query, kvHeads); // [N, Hkv·D]
  const v = sliceColumns(rec, qkv, query + keyValue, keyValue); // [N, Hkv·D]
  const mixed = step.attend(rec, { layer, q, k, v, heads, kvHeads, headDim, scale: headDim ** -0.5 }); // [N, H·D]
  return linear(rec, mixed, w.out.weight, { bias: w.out.bias }); // [N, C]
}
