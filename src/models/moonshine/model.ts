import { rotaryTable } from "../../nn/rotary.ts";
import type { Step } from "../../nn/step.ts";
import { activation } from "../../ops/activation.ts";
import { add } from "../../ops/add.ts";
import { concatColumns } from "../../ops/concat_columns.ts";
import { conv1d, conv1dSteps } from "../../ops/conv1d.ts";
import { embedding } from "../../ops/embedding.ts";
import { gatedActivation } from "../../ops/gated_activation.ts";
import { layerNorm } from "../../ops/layer_norm.ts";
import { linear } from "../../ops/linear.ts";
import type { Recorder, Value } from "../../ops/op.ts";
import { rope } from "../../ops/rope.ts";
import { sliceColumns } from "../../ops/slice_columns.ts";
import { wholeNorm } from "../../ops/whole_norm.ts";
import type { WithLeaf } from "../family.ts";
import { speechFamily } from "../speech_family.ts";
import { type MoonshineConfig, parseMoonshine } from "./config.ts";
import { CONVOLUTIONS, type MoonshineRules, moonshineRules } from "./weights.ts";

type Weights = WithLeaf<MoonshineRules, Value>;
type SelfWeights = Pick<Weights["encoder"][number], "norm1" | "qkv" | "out">;

const EPS = 1e-5;

/** Moonshine: "Speech Recognition for Live Transcription and Voice Commands", arXiv 2410.15608: samples in, rotary positions. */
export const moonshine = speechFamily<MoonshineConfig, MoonshineRules>({
  name: "moonshine",
  modelTypes: ["moonshine"],
  prefixes: ["model."],
  // A copy of the tied embedding, and frequencies that are computed.
  ignored: [/^proj_out\.weight$/, /^lm_head\.weight$/, /\.rotary_emb\.inv_freq$/],
  parse: parseMoonshine,
  rules: moonshineRules,
  constants: ({ rotary }, positions) => ({
    rotary: { shape: [positions, rotary.rotaryDim / 2, 2], data: rotaryTable(rotary, positions) },
  }),
  sound: () => ({
    sampleRate: 16_000,
    chunkSeconds: 30,
    // The first second is the least that its authors trained on.
    leastSamples: 16_000,
    features: (samples) => ({ shape: [samples.length, 1], data: Float32Array.from(samples) }),
    encodedRows: (samples) => CONVOLUTIONS.reduce((rows, c) => conv1dSteps(rows, c), samples),
    // What the authors found that speech takes at most: 6.5 tokens a second (the released code).
    mostTokens: (samples) => Math.max(1, Math.ceil((samples / 16_000) * 6.5)),
  }),
  encode(rec, c, w, step) {
    let x = frontEnd(rec, w, step.tokens); // [frames, C]
    w.encoder.forEach((block, layer) => {
      x = step.block(rec, layer, () => {
        const attended = rec.scope("attention", () => selfAttention(rec, c, block, { step, layer, x }));
        const middle = rec.name(add(rec, x, step.dropout(rec, attended)), "attention.residual");
        const fed = rec.scope("feed_forward", () => {
          const up = linear(rec, norm(rec, middle, block.norm2), block.up.weight, { bias: block.up.bias }); // [N, F]
          const active = activation(rec, rec.name(up, "up"), c.encoderActivation);
          return linear(rec, rec.name(active, "activation"), block.down.weight, { bias: block.down.bias }); // [N, C]
        });
        return rec.name(add(rec, middle, step.dropout(rec, fed)), "output");
      });
    });
    return norm(rec, x, w.encoderNorm);
  },
  memory: (rec, c, w, encoded) =>
    w.decoder.map(({ cross }) => {
      const joined = linear(rec, encoded, cross.keyValue.weight, { bias: cross.keyValue.bias }); // [M, 2·Hkv·D]
      const width = c.kvHeads * c.headDim;
      return { k: sliceColumns(rec, joined, 0, width), v: sliceColumns(rec, joined, width, width) };
    }),
  hidden(rec, c, w, step) {
    let x = rec.name(embedding(rec, step.tokens, w.tokens), "embedding"); // [N, C]
    w.decoder.forEach((block, layer) => {
      x = step.block(rec, layer, () => decoderBlock(rec, c, block, { step, layer, x }));
    });
    return norm(rec, x, w.norm);
  },
  logits: (rec, _, w, hidden) => rec.name(linear(rec, hidden, w.tokens), "logits"), // [M, V]
});

/** Samples `[S, 1]` to frames `[T, C]`, 41.7 a second. */
function frontEnd(rec: Recorder, w: Weights, samples: Value): Value {
  const [first, second, third] = CONVOLUTIONS;
  const batch = 1;
  return rec.scope("front_end", () => {
    const one = activation(rec, conv1d(rec, samples, w.conv1, { ...first, batch }), "tanh"); // [T1, C]
    const normed = rec.name(wholeNorm(rec, one, w.groupNorm, { eps: EPS }), "norm");
    const two = activation(rec, conv1d(rec, normed, w.conv2, { ...second, batch }), "gelu"); // [T2, 2C]
    return rec.name(activation(rec, conv1d(rec, two, w.conv3, { ...third, batch }), "gelu"), "output"); // [T, C]
  });
}

interface BlockInput {
  readonly step: Step;
  readonly layer: number;
  readonly x: Value;
}

/** Self-attention, attention to the sound, and SwiGLU, each behind a norm: x `[N, C]` → `[N, C]`. */
function decoderBlock(rec: Recorder, c: MoonshineConfig, w: Weights["decoder"][number], input: BlockInput): Value {
  const { step, layer, x } = input;
  const { heads, kvHeads, headDim } = c;
  const attended = rec.scope("attention", () => selfAttention(rec, c, w, { step, layer, x }));
  const first = rec.name(add(rec, x, step.dropout(rec, attended)), "attention.residual");
  const crossed = rec.scope("cross_attention", () => {
    const q = rec.name(linear(rec, norm(rec, first, w.norm2), w.cross.q.weight, { bias: w.cross.q.bias }), "q");
    const mixed = step.attendMemory(rec, { layer, q, heads, kvHeads, headDim, scale: headDim ** -0.5 });
    return rec.name(linear(rec, mixed, w.cross.out.weight), "projected"); // [N, C]
  });
  const second = rec.name(add(rec, first, step.dropout(rec, crossed)), "cross_attention.residual");
  const fed = rec.scope("feed_forward", () => {
    const up = linear(rec, norm(rec, second, w.norm3), w.up.weight, { bias: w.up.bias }); // [N, 2F]: values, gate
    const inner = c.feedForwardWidth;
    const gateFirst = concatColumns(rec, [sliceColumns(rec, up, inner, inner), sliceColumns(rec, up, 0, inner)]);
    const active = rec.name(gatedActivation(rec, gateFirst, c.decoderActivation), "activation"); // [N, F]
    return linear(rec, active, w.down.weight, { bias: w.down.bias });
  });
  return rec.name(add(rec, second, step.dropout(rec, fed)), "output");
}

function selfAttention(rec: Recorder, c: MoonshineConfig, w: SelfWeights, { step, layer, x }: BlockInput): Value {
  const { heads, kvHeads, headDim, rotary } = c;
  const [query, keyValue] = [heads * headDim, kvHeads * headDim];
  const qkv = rec.name(linear(rec, norm(rec, x, w.norm1), w.qkv.weight, { bias: w.qkv.bias }), "qkv");
  const turn = (value: Value, own: number) => {
    const angles = { table: step.constant("rotary"), heads: own, headDim, rotaryDim: rotary.rotaryDim };
    return rope(rec, value, step.rowTable, { ...angles, interleaved: true });
  };
  const mixed = step.attend(rec, {
    layer,
    q: rec.name(turn(sliceColumns(rec, qkv, 0, query), heads), "q"),
    k: rec.name(turn(sliceColumns(rec, qkv, query, keyValue), kvHeads), "k"),
    v: rec.name(sliceColumns(rec, qkv, query + keyValue, keyValue), "v"),
    ...{ heads, kvHeads, headDim, scale: headDim ** -0.5 },
  });
  return rec.name(linear(rec, mixed, w.out.weight), "projected"); // [N, C]
}

function norm(rec: Recorder, x: Value, weight: Value): Value {
  return rec.name(layerNorm(rec, x, weight, undefined, { eps: EPS }), "norm");
}
