import type { DecoderStep } from "../../nn/step.ts";
import { activation } from "../../ops/activation.ts";
import { add } from "../../ops/add.ts";
import { embedding, positionEmbedding } from "../../ops/embedding.ts";
import { layerNorm } from "../../ops/layer_norm.ts";
import { linear } from "../../ops/linear.ts";
import type { Recorder, Value } from "../../ops/op.ts";
import { sliceColumns } from "../../ops/slice_columns.ts";
import { decoderFamily, type WithLeaf } from "../family.ts";
import { type Gpt2Config, parseGpt2 } from "./config.ts";
import { type Gpt2Rules, gpt2Rules } from "./weights.ts";

type Weights = WithLeaf<Gpt2Rules, Value>;
type Block = Weights["blocks"][number];

/** GPT-2: learned positions, pre-norm blocks, GELU feed-forward, output tied to the embedding (§2.3 of its paper). */
export const gpt2 = decoderFamily<Gpt2Config, Gpt2Rules>({
  name: "gpt2",
  modelTypes: ["gpt2"],
  prefixes: ["transformer."],
  // Causal masks that older checkpoints stored as buffers, and a copy of the tied embedding.
  ignored: [/\.attn\.(bias|masked_bias)$/, /^lm_head\.weight$/],
  parse: parseGpt2,
  rules: gpt2Rules,
  hidden(rec, c, w, step) {
    const tokens = rec.name(embedding(rec, step.tokens, w.tokens), "token_embedding"); // [N, C]
    const positions = rec.name(positionEmbedding(rec, step.rowTable, w.positions), "position_embedding"); // [N, C]
    let x = rec.name(add(rec, tokens, positions), "embedding");
    w.blocks.forEach((block, layer) => {
      x = step.block(rec, layer, () => forwardBlock(rec, c, block, step, layer, x));
    });
    return rec.name(layerNorm(rec, x, w.norm.weight, w.norm.bias, { eps: c.normEps }), "norm");
  },
  logits: (rec, _, w, hidden) =>
    rec.name(
      rec.scope("head", () => linear(rec, hidden, w.head ?? w.tokens)),
      "logits",
    ), // [M, V]
});

function forwardBlock(rec: Recorder, c: Gpt2Config, w: Block, step: DecoderStep, layer: number, x: Value): Value {
  const eps = { eps: c.normEps };
  const attended = rec.scope("attention", () => {
    const h = rec.name(layerNorm(rec, x, w.norm1.weight, w.norm1.bias, eps), "norm");
    const qkv = rec.name(linear(rec, h, w.qkv.weight, { bias: w.qkv.bias }), "qkv"); // [N, 3C]
    const part = (name: string, i: number) => rec.name(sliceColumns(rec, qkv, i * c.width, c.width), name); // [N, C]
    const mixed = step.attend(rec, {
      layer,
      q: part("q", 0),
      k: part("k", 1),
      v: part("v", 2),
      heads: c.heads,
      kvHeads: c.heads,
      headDim: c.headDim,
      scale: c.headDim ** -0.5,
    });
    return rec.name(linear(rec, mixed, w.out.weight, { bias: w.out.bias }), "projected"); // [N, C]
  });
  const middle = rec.name(add(rec, x, attended), "attention.residual");
  const fed = rec.scope("feed_forward", () => {
    const h = rec.name(layerNorm(rec, middle, w.norm2.weight, w.norm2.bias, eps), "norm");
    const up = rec.name(linear(rec, h, w.up.weight, { bias: w.up.bias }), "up"); // [N, F]
    const active = rec.name(activation(rec, up, c.activation), "activation");
    return rec.name(linear(rec, active, w.down.weight, { bias: w.down.bias }), "down"); // [N, C]
  });
  return rec.name(add(rec, middle, fed), "output");
}
