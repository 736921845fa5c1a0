import type { Step } from "../../nn/step.ts";
import { activation } from "../../ops/activation.ts";
import { add, scale } from "../../ops/add.ts";
import { embedding } from "../../ops/embedding.ts";
import { gatedActivation } from "../../ops/gated_activation.ts";
import { linear } from "../../ops/linear.ts";
import type { Recorder, Value } from "../../ops/op.ts";
import { rmsNorm } from "../../ops/rms_norm.ts";
import { sliceColumns } from "../../ops/slice_columns.ts";
import { encoderDecoderFamily, type WithLeaf } from "../family.ts";
import { parseT5, type T5Config } from "./config.ts";
import { type T5Rules, t5Rules } from "./weights.ts";

type Weights = WithLeaf<T5Rules, Value>;
type BlockWeights = Weights["encoder"]["blocks"][number] | Weights["decoder"]["blocks"][number];
type Side = Weights["encoder"] | Weights["decoder"];

/**
 * T5 (arXiv 1910.10683 §2.1): RMS norm before each sublayer, no biases, no scaling of scores, and positions as a bias of the scores
 * by distance, which all blocks of a side share. Version 1.1 gates the feed-forward (arXiv 2002.05202) and has a head of its own.
 */
export const t5 = encoderDecoderFamily<T5Config, T5Rules>({
  name: "t5",
  modelTypes: ["t5", "mt5"],
  prefixes: [],
  // Copies of the tied embedding, and a bias of cross-attention that first versions stored and never used.
  ignored: [
    /^(encoder|decoder)\.embed_tokens\.weight$/,
    /^lm_head\.weight$/,
    /EncDecAttention\.relative_attention_bias\.weight$/,
  ],
  parse: parseT5,
  rules: t5Rules,
  encode: (rec, c, w, step) => side(rec, c, w.encoder, { tokens: w.tokens, step, bidirectional: true }),
  memory: (rec, _, w, encoded) =>
    w.decoder.blocks.map(({ cross }, layer) =>
      rec.scope(`block.${layer}`, () => {
        const joined = linear(rec, encoded, cross.keyValue.weight); // [M, 2·H·D]
        const half = (joined.shape[1] as number) / 2;
        const part = (name: string, i: number) => rec.name(sliceColumns(rec, joined, i * half, half), name);
        return { k: part("k", 0), v: part("v", 1) };
      }),
    ),
  hidden: (rec, c, w, step) => side(rec, c, w.decoder, { tokens: w.tokens, step, bidirectional: false }),
  logits: (rec, c, w, hidden) =>
    rec.scope("head", () => {
      const rows = c.tied ? scale(rec, hidden, c.width ** -0.5) : hidden;
      return rec.name(linear(rec, rows, w.head ?? w.tokens), "logits"); // [M, V]
    }),
});

interface SideParts {
  readonly tokens: Value;
  readonly step: Step;
  readonly bidirectional: boolean;
}

/** Tokens to rows after the last norm of a side, `[N] → [N, C]`. */
function side(rec: Recorder, c: T5Config, w: Side, { tokens, step, bidirectional }: SideParts): Value {
  const relativeBias = { weight: w.relativeBias, bidirectional, maxDistance: c.maxDistance };
  let x = step.dropout(rec, rec.name(embedding(rec, step.tokens, tokens), "embedding")); // [N, C]
  w.blocks.forEach((block: BlockWeights, layer) => {
    const sublayer = (name: string, norm: Value, input: Value, result: string, body: (h: Value) => Value) => {
      const made = rec.scope(name, () => {
        const h = rec.name(rmsNorm(rec, input, norm, { eps: c.normEps }), "norm");
        return rec.name(body(h), "projected");
      });
      return rec.name(add(rec, input, step.dropout(rec, made)), result);
    };
    x = step.block(rec, layer, () => {
      let y = sublayer("attention", block.attentionNorm, x, "attention.residual", (h) => {
        const qkv = rec.name(linear(rec, h, block.qkv.weight), "qkv"); // [N, 3·H·D]
        const width = c.heads * c.headDim;
        const part = (name: string, i: number) => rec.name(sliceColumns(rec, qkv, i * width, width), name);
        const inputs = { layer, q: part("q", 0), k: part("k", 1), v: part("v", 2), ...geometry(c), relativeBias };
        return linear(rec, step.attend(rec, inputs), block.out.weight);
      });
      if ("cross" in block) {
        const { norm, q, out } = block.cross;
        y = sublayer("cross_attention", norm, y, "cross_attention.residual", (h) => {
          const query = rec.name(linear(rec, h, q.weight), "q"); // [N, H·D]
          return linear(rec, step.attendMemory(rec, { layer, q: query, ...geometry(c) }), out.weight);
        });
      }
      return sublayer("feed_forward", block.feedForwardNorm, y, "output", (h) => feedForward(rec, c, block, h));
    });
  });
  return step.dropout(rec, rec.name(rmsNorm(rec, x, w.norm, { eps: c.normEps }), "norm"));
}

function geometry({ heads, headDim }: T5Config) {
  return { heads, kvHeads: heads, headDim, scale: 1 };
}

function feedForward(rec: Recorder, c: T5Config, w: BlockWeights, h: Value): Value {
  const up = rec.name(linear(rec, h, w.up.weight), c.gated ? "gate_up" : "up"); // [N, F] or [N, 2F]
  const act = c.gated ? gatedActivation(rec, up, c.activation) : activation(rec, up, c.activation);
  return linear(rec, rec.name(act, "activation"), w.down.weight); // [N, C]
}
