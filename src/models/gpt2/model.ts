import { plainBlock } from "../../nn/blocks/plain_block.ts";
import { add } from "../../ops/add.ts";
import { embedding, positionEmbedding } from "../../ops/embedding.ts";
import { layerNorm } from "../../ops/layer_norm.ts";
import { linear } from "../../ops/linear.ts";
import { decoderFamily } from "../family.ts";
import { type Gpt2Config, parseGpt2 } from "./config.ts";
import { type Gpt2Rules, gpt2Rules } from "./weights.ts";

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
    let x = step.dropout(rec, rec.name(add(rec, tokens, positions), "embedding"));
    w.blocks.forEach((block, layer) => {
      x = step.block(rec, layer, () => plainBlock(rec, c, block, { step, layer, x }));
    });
    return rec.name(layerNorm(rec, x, w.norm.weight, w.norm.bias, { eps: c.normEps }), "norm");
  },
  logits: (rec, _, w, hidden) =>
    rec.name(
      rec.scope("head", () => linear(rec, hidden, w.head ?? w.tokens)),
      "logits",
    ), // [M, V]
});
