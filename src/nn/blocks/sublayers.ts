import { activation } from "../../ops/activation.ts";
import type { ActivationName } from "../../ops/activation_parts.ts";
import { add } from "../../ops/add.ts";
import { layerNorm } from "../../ops/layer_norm.ts";
import { linear } from "../../ops/linear.ts";
import type { Recorder, Value } from "../../ops/op.ts";
import { sliceColumns } from "../../ops/slice_columns.ts";
import type { MemoryRows, Step } from "../step.ts";
import type { Projection } from "./gated_block.ts";
import type { Norm } from "./plain_block.ts";

/** What the blocks of an encoder or of a decoder have to know of their model. */
export interface SublayerConfig {
  readonly heads: number;
  readonly headDim: number;
  readonly normEps: number;
  readonly activation: ActivationName;
  /** The norm stands before each sublayer, not after the sum with its input. */
  readonly normFirst: boolean;
}

/** The weights of a block of the encoder. Projections of one input are joined, unless some alone have biases (Whisper). */
export interface EncoderBlockWeights {
  /** `[3C, C]`: q, k, v; or `[C, C]` each. */
  readonly qkv: Projection | { readonly q: Projection; readonly k: Projection; readonly v: Projection };
  /** `[C, C]` */
  readonly out: Projection;
  readonly attentionNorm: Norm;
  /** `[F, C]` */
  readonly up: Projection;
  /** `[C, F]` */
  readonly down: Projection;
  readonly feedForwardNorm: Norm;
}

/** The weights of a block of the decoder. */
export interface DecoderBlockWeights extends EncoderBlockWeights {
  readonly cross: {
    /** `[C, C]` */
    readonly q: Projection;
    /** `[2C, C]`: k, v of the encoder's rows; or `[C, C]` each. */
    readonly keyValue: Projection | { readonly k: Projection; readonly v: Projection };
    /** `[C, C]` */
    readonly out: Projection;
    readonly norm: Norm;
  };
}

interface BlockInput {
  readonly step: Step;
  readonly layer: number;
  readonly x: Value;
}

/** Self-attention and feed-forward: x `[N, C]` → `[N, C]`. Source: "Attention Is All You Need", arXiv 1706.03762 §3.1. */
export function encoderBlock(rec: Recorder, c: SublayerConfig, w: EncoderBlockWeights, input: BlockInput): Value {
  const { step, layer, x } = input;
  const attended = sublayer(rec, c, { step, x, name: "attention", norm: w.attentionNorm }, (h) =>
    selfAttention(rec, c, w, { step, layer, x: h }),
  );
  return feedForward(rec, c, w, { step, layer, x: attended });
}

/** Self-attention, attention to the encoder's rows, and feed-forward: x `[N, C]` → `[N, C]`. Source: ibid. */
export function decoderBlock(rec: Recorder, c: SublayerConfig, w: DecoderBlockWeights, input: BlockInput): Value {
  const { step, layer, x } = input;
  const attended = sublayer(rec, c, { step, x, name: "attention", norm: w.attentionNorm }, (h) =>
    selfAttention(rec, c, w, { step, layer, x: h }),
  );
  const crossed = sublayer(rec, c, { step, x: attended, name: "cross_attention", norm: w.cross.norm }, (h) => {
    const q = rec.name(linear(rec, h, w.cross.q.weight, { bias: w.cross.q.bias }), "q"); // [N, C]
    const mixed = step.attendMemory(rec, { layer, q, ...geometry(c) }); // [N, C]
    return linear(rec, mixed, w.cross.out.weight, { bias: w.cross.out.bias });
  });
  return feedForward(rec, c, w, { step, layer, x: crossed });
}

/** Keys and values of the encoder's rows `[M, C]` for one block of the decoder. */
export function crossMemory(rec: Recorder, { cross }: DecoderBlockWeights, encoded: Value): MemoryRows {
  const { keyValue } = cross;
  if ("k" in keyValue) return { k: project(rec, encoded, keyValue.k, "k"), v: project(rec, encoded, keyValue.v, "v") };
  const joined = linear(rec, encoded, keyValue.weight, { bias: keyValue.bias }); // [M, 2C]
  const width = keyValue.weight.shape[0] as number;
  return {
    k: rec.name(sliceColumns(rec, joined, 0, width / 2), "k"),
    v: rec.name(sliceColumns(rec, joined, width / 2, width / 2), "v"),
  };
}

/** A layer by itself, with its name. */
function project(rec: Recorder, x: Value, { weight, bias }: Projection, name: string): Value {
  return rec.name(linear(rec, x, weight, { bias }), name);
}

function geometry({ heads, headDim }: SublayerConfig) {
  return { heads, kvHeads: heads, headDim, scale: headDim ** -0.5 };
}

/** `norm(x + dropout(body(x)))`, or with the norm first `x + dropout(body(norm(x)))`. */
function sublayer(
  rec: Recorder,
  c: SublayerConfig,
  { step, x, name, norm, result = `${name}.${c.normFirst ? "residual" : "norm"}` }: SublayerParts,
  body: (h: Value) => Value,
): Value {
  const normed = (value: Value) => layerNorm(rec, value, norm.weight, norm.bias, { eps: c.normEps });
  const made = rec.scope(name, () => rec.name(body(c.normFirst ? rec.name(normed(x), "norm") : x), "projected"));
  const sum = add(rec, x, step.dropout(rec, made));
  if (c.normFirst) return rec.name(sum, result);
  return rec.name(normed(rec.name(sum, `${name}.residual`)), result);
}

interface SublayerParts {
  readonly step: Step;
  readonly x: Value;
  readonly name: string;
  readonly norm: Norm;
  /** What the result is called. */
  readonly result?: string;
}

function selfAttention(rec: Recorder, c: SublayerConfig, w: EncoderBlockWeights, { step, layer, x }: BlockInput) {
  const mixed = step.attend(rec, { layer, ...projections(rec, c, w, x), ...geometry(c) }); // [N, C]
  return linear(rec, mixed, w.out.weight, { bias: w.out.bias });
}

/** Queries, keys and values of the rows, `[N, C]` each. */
function projections(rec: Recorder, c: SublayerConfig, { qkv }: EncoderBlockWeights, x: Value) {
  if ("q" in qkv)
    return { q: project(rec, x, qkv.q, "q"), k: project(rec, x, qkv.k, "k"), v: project(rec, x, qkv.v, "v") };
  const width = c.heads * c.headDim;
  const joined = project(rec, x, qkv, "qkv"); // [N, 3C]
  const part = (name: string, i: number) => rec.name(sliceColumns(rec, joined, i * width, width), name);
  return { q: part("q", 0), k: part("k", 1), v: part("v", 2) };
}

function feedForward(rec: Recorder, c: SublayerConfig, w: EncoderBlockWeights, { step, x }: BlockInput): Value {
  return sublayer(rec, c, { step, x, name: "feed_forward", norm: w.feedForwardNorm, result: "output" }, (h) => {
    const up = rec.name(linear(rec, h, w.up.weight, { bias: w.up.bias }), "up"); // [N, F]
    const active = rec.name(activation(rec, up, c.activation), "activation");
    return linear(rec, active, w.down.weight, { bias: w.down.bias }); // [N, C]
  });
}
