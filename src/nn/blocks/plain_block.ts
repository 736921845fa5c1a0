import { activation } from "../../ops/activation.ts";
import type { ActivationName } from "../../ops/activation_parts.ts";
import { add } from "../../ops/add.ts";
import { layerNorm } from "../../ops/layer_norm.ts";
import { linear } from "../../ops/linear.ts";
import type { Recorder, Value } from "../../ops/op.ts";
import { rope } from "../../ops/rope.ts";
import { sliceColumns } from "../../ops/slice_columns.ts";
import type { Step } from "../step.ts";
import type { Projection } from "./gated_block.ts";

/** What a plain block has to know of its model. */
export interface PlainBlockConfig {
  readonly heads: number;
  readonly headDim: number;
  readonly width: number;
  readonly normEps: number;
  readonly activation: ActivationName;
  /** Set where queries and keys are turned, by the step's constant `rotary`. */
  readonly rotary?: { readonly rotaryDim: number };
  /** Scores fall with distance, by the slopes in the step's constant `alibi`. Default false. */
  readonly alibi?: boolean;
  /** The feed-forward reads the block's input, not the attention's residual. Default false. */
  readonly parallel?: boolean;
}

/** Gain and bias `[C]` of a layer norm. */
export interface Norm {
  readonly weight: Value;
  readonly bias?: Value | undefined;
}

/** The weights of a plain block. */
export interface PlainBlockWeights {
  readonly norm1: Norm;
  /** `[3C, C]`: q, k, v. */
  readonly qkv: Projection;
  /** `[C, C]` */
  readonly out: Projection;
  readonly norm2: Norm;
  /** `[F, C]` */
  readonly up: Projection;
  /** `[C, F]` */
  readonly down: Projection;
}

/**
 * Pre-norm block with layer norm, as many key heads as query heads, and a feed-forward of two layers: x `[N, C]` → `[N, C]`.
 * Source: GPT-2, "Language Models are Unsupervised Multitask Learners", §2.3; parallel: GPT-NeoX, arXiv 2204.06745 §2.1;
 * slopes: ALiBi, arXiv 2108.12409 §3.
 */
export function plainBlock(
  rec: Recorder,
  c: PlainBlockConfig,
  w: PlainBlockWeights,
  { step, layer, x }: { readonly step: Step; readonly layer: number; readonly x: Value },
): Value {
  const norm = (value: Value, { weight, bias }: Norm) =>
    rec.name(layerNorm(rec, value, weight, bias, { eps: c.normEps }), "norm");
  const attended = rec.scope("attention", () => attention(rec, c, w, { step, layer, h: norm(x, w.norm1) }));
  const middle = rec.name(add(rec, x, step.dropout(rec, attended)), "attention.residual");
  const fed = rec.scope("feed_forward", () => {
    const h = norm(c.parallel ? x : middle, w.norm2);
    const up = rec.name(linear(rec, h, w.up.weight, { bias: w.up.bias }), "up"); // [N, F]
    const active = rec.name(activation(rec, up, c.activation), "activation");
    return rec.name(linear(rec, active, w.down.weight, { bias: w.down.bias }), "down"); // [N, C]
  });
  return rec.name(add(rec, middle, step.dropout(rec, fed)), "output");
}

function attention(
  rec: Recorder,
  c: PlainBlockConfig,
  w: PlainBlockWeights,
  { step, layer, h }: { readonly step: Step; readonly layer: number; readonly h: Value },
): Value {
  const { heads, headDim, rotary } = c;
  const qkv = rec.name(linear(rec, h, w.qkv.weight, { bias: w.qkv.bias }), "qkv"); // [N, 3C]
  const part = (i: number) => sliceColumns(rec, qkv, i * c.width, c.width); // [N, C]
  const turn = (value: Value) => {
    if (!rotary) return value;
    const table = step.constant("rotary");
    const angles = { table, heads, headDim, rotaryDim: rotary.rotaryDim, interleaved: false };
    return rope(rec, value, step.rowTable, angles);
  };
  const mixed = step.attend(rec, {
    layer,
    q: rec.name(turn(part(0)), "q"),
    k: rec.name(turn(part(1)), "k"),
    v: rec.name(part(2), "v"),
    heads,
    kvHeads: heads,
    headDim,
    scale: headDim ** -0.5,
    alibiSlopes: c.alibi ? step.constant("alibi") : undefined,
  });
  return rec.name(linear(rec, mixed, w.out.weight, { bias: w.out.bias }), "projected"); // [N, C]
}
