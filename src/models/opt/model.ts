import { plainBlock } from "../../nn/blocks/plain_block.ts";
import { add } from "../../ops/add.ts";
import { embedding, positionEmbedding } from "../../ops/embedding.ts";
import { layerNorm } from "../../ops/layer_norm.ts";
import { linear } from "../../ops/linear.ts";
import { decoderFamily } from "../family.ts";
import { type OptConfig, parseOpt } from "./config.ts";
import { type OptRules, optRules, POSITION_OFFSET } from "./weights.ts";

/** OPT (arXiv 2205.01068 §2.1): GPT-2's block with ReLU; its learned positions begin at the third row of their table. */
export const opt = decoderFamily<OptConfig, OptRules>({
  name: "opt",
  modelTypes: ["opt"],
  prefixes: ["model.decoder.", "decoder."],
  // A copy of the tied embedding.
  ignored: [/^lm_head\.weight$/],
  parse: parseOpt,
  rules: optRules,
  hidden(rec, c, w, step) {
    const tokens = rec.name(embedding(rec, step.tokens, w.tokens), "token_embedding"); // [N, C]
    const shift = { shift: POSITION_OFFSET };
    const positions = rec.name(positionEmbedding(rec, step.rowTable, w.positions, shift), "position_embedding"); // [N, C]
    let x = rec.name(add(rec, tokens, positions), "embedding");
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
