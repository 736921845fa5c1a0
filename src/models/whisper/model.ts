import { crossMemory, decoderBlock, encoderBlock } from "../../nn/blocks/sublayers.ts";
import { activation } from "../../ops/activation.ts";
import { add } from "../../ops/add.ts";
import { conv1d, conv1dSteps } from "../../ops/conv1d.ts";
import { embedding, positionEmbedding } from "../../ops/embedding.ts";
import { layerNorm } from "../../ops/layer_norm.ts";
import { linear } from "../../ops/linear.ts";
import type { Recorder, Value } from "../../ops/op.ts";
import { speechFamily } from "../speech_family.ts";
import { parseWhisper, type WhisperConfig } from "./config.ts";
import { HOP, logMel } from "./log_mel.ts";
import { type WhisperRules, whisperRules } from "./weights.ts";

/** Rows and stride of the two convolutions (§2.2). */
const CONV1 = { kernel: 3, padding: 1 };
const CONV2 = { kernel: 3, padding: 1, stride: 2 };

/** Whisper: "Robust Speech Recognition via Large-Scale Weak Supervision", arXiv 2212.04356 §2.2. */
export const whisper = speechFamily<WhisperConfig, WhisperRules>({
  name: "whisper",
  modelTypes: ["whisper"],
  prefixes: ["model."],
  // A copy of the tied embedding.
  ignored: [/^proj_out\.weight$/],
  parse: parseWhisper,
  rules: whisperRules,
  sound: ({ encoder, mels, contextLength }) => {
    const length = encoder.contextLength * 2 * HOP;
    return {
      sampleRate: 16_000,
      chunkSeconds: length / 16_000,
      leastSamples: 1,
      features: (samples) => logMel(samples, { mels, length }),
      encodedRows: (frames) => conv1dSteps(conv1dSteps(frames, CONV1), CONV2),
      mostTokens: () => contextLength,
    };
  },
  encode(rec, c, w, step) {
    const { heads } = c.encoder;
    const side = { ...c, heads, headDim: c.width / heads };
    const one = activation(rec, conv1d(rec, step.tokens, w.conv1, { ...CONV1, batch: 1 }), c.activation); // [frames, C]
    const two = activation(rec, conv1d(rec, one, w.conv2, { ...CONV2, batch: 1 }), c.activation); // [T, C]
    const positions = positionEmbedding(rec, step.rowTable, w.sourcePositions);
    let x = step.dropout(rec, rec.name(add(rec, rec.name(two, "front_end"), positions), "embedding"));
    w.encoder.forEach((block, layer) => {
      x = step.block(rec, layer, () => encoderBlock(rec, side, block, { step, layer, x }));
    });
    return norm(rec, c, w.encoderNorm, x);
  },
  memory: (rec, _, w, encoded) =>
    w.decoder.map((block, layer) => rec.scope(`block.${layer}`, () => crossMemory(rec, block, encoded))),
  hidden(rec, c, w, step) {
    const tokens = rec.name(embedding(rec, step.tokens, w.tokens, { scale: c.embeddingScale }), "token_embedding"); // [N, C]
    const positions = rec.name(positionEmbedding(rec, step.rowTable, w.positions), "position_embedding"); // [N, C]
    let x = step.dropout(rec, rec.name(add(rec, tokens, positions), "embedding"));
    w.decoder.forEach((block, layer) => {
      x = step.block(rec, layer, () => decoderBlock(rec, c, block, { step, layer, x }));
    });
    return norm(rec, c, w.norm, x);
  },
  logits: (rec, _, w, hidden) => rec.name(linear(rec, hidden, w.tokens), "logits"), // [M, V]
});

function norm(rec: Recorder, c: WhisperConfig, w: { readonly weight: Value; readonly bias: Value }, x: Value): Value {
  return rec.name(layerNorm(rec, x, w.weight, w.bias, { eps: c.normEps }), "norm");
}
