import { plainBlock } from "../../nn/blocks/plain_block.ts";
import { rotaryTable } from "../../nn/rotary.ts";
import { embedding } from "../../ops/embedding.ts";
import { layerNorm } from "../../ops/layer_norm.ts";
import { linear } from "../../ops/linear.ts";
import { decoderFamily } from "../family.ts";
import { type GptNeoxConfig, parseGptNeox } from "./config.ts";
import { type GptNeoxRules, gptNeoxRules } from "./weights.ts";

/** GPT-NeoX: GPT-2's block, a part of each head turned, attention and feed-forward side by side (arXiv 2204.06745 §2.1). */
export const gptNeox = decoderFamily<GptNeoxConfig, GptNeoxRules>({
  name: "gpt_neox",
  modelTypes: ["gpt_neox"],
  prefixes: ["gpt_neox."],
  // Causal masks and frequencies that older checkpoints stored as buffers, and a copy of a tied embedding.
  ignored: [/\.attention\.(bias|masked_bias)$/, /\.rotary_emb\.inv_freq$/, /^embed_out\.weight$/],
  parse: parseGptNeox,
  rules: gptNeoxRules,
  constants: (c, positions) => ({
    rotary: { shape: [positions, c.rotary.rotaryDim / 2, 2], data: rotaryTable(c.rotary, positions) },
  }),
  hidden(rec, c, w, step) {
    let x = rec.name(embedding(rec, step.tokens, w.tokens), "embedding"); // [N, C]
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
