import { plainBlock } from "../../nn/blocks/plain_block.ts";
import { embedding } from "../../ops/embedding.ts";
import { layerNorm } from "../../ops/layer_norm.ts";
import { linear } from "../../ops/linear.ts";
import { decoderFamily } from "../family.ts";
import { alibiSlopes, type BloomConfig, parseBloom } from "./config.ts";
import { type BloomRules, bloomRules } from "./weights.ts";

/** BLOOM (arXiv 2211.05100 §3.2): GPT-2's block with ALiBi in place of position embeddings, and a norm of the embedding. */
export const bloom = decoderFamily<BloomConfig, BloomRules>({
  name: "bloom",
  modelTypes: ["bloom"],
  prefixes: ["transformer."],
  // Causal masks that older checkpoints stored as buffers, and a copy of the tied embedding.
  ignored: [/\.self_attention\.(bias|masked_bias)$/, /^lm_head\.weight$/],
  parse: parseBloom,
  rules: bloomRules,
  constants: (c) => ({ alibi: { shape: [c.heads], data: alibiSlopes(c.heads) } }),
  hidden(rec, c, w, step) {
    const tokens = rec.name(embedding(rec, step.tokens, w.tokens), "token_embedding"); // [N, C]
    const { weight, bias } = w.embeddingNorm;
    let x = rec.name(layerNorm(rec, tokens, weight, bias, { eps: c.normEps }), "embedding"); // [N, C]
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
