import type { ActivationName } from "../../ops/activation_parts.ts";
import { add } from "../../ops/add.ts";
import { gatedActivation } from "../../ops/gated_activation.ts";
import { linear } from "../../ops/linear.ts";
import type { Recorder, Value } from "../../ops/op.ts";
import { rmsNorm } from "../../ops/rms_norm.ts";
import { rope } from "../../ops/rope.ts";
import { sliceColumns } from "../../ops/slice_columns.ts";
import type { Step } from "../step.ts";

/** What a gated block has to know of its model. */
export interface GatedBlockConfig {
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly normEps: number;
  readonly activation: ActivationName;
  /** `interleaved`: neighbouring channels turn together, not those half of the turned ones apart. */
  readonly rotary: { readonly rotaryDim: number; readonly interleaved?: boolean };
  /** The step's constant that each layer's queries and keys are turned by; default `rotary`. */
  readonly rotaryNames?: readonly string[];
  /** Of q·k; default `1 / √D`. */
  readonly scale?: number;
  /** `c · tanh(score / c)` of the scaled scores; default: none. */
  readonly softcap?: number | undefined;
  /** Of each layer: a position sees itself and the `window − 1` before it; undefined sees all. */
  readonly windows: readonly (number | undefined)[];
}

/** A projection: weight `[M, K]`, bias `[M]`. */
export interface Projection {
  readonly weight: Value;
  readonly bias?: Value | undefined;
}

/** The weights of a gated block. Projections of one input are joined: one kernel reads them in one go. */
export interface GatedBlockWeights {
  /** `[C]` */
  readonly attentionNorm: Value;
  /** `[(H + 2 Hkv)·D, C]`: q, k, v. */
  readonly qkv: Projection;
  /** `[D]`: gains of the norms of each query and each key head, for those families that have them. */
  readonly qNorm?: Value | undefined;
  readonly kNorm?: Value | undefined;
  /** `[C, H·D]` */
  readonly out: Projection;
  /** `[C]`: of what attention and feed-forward add to the residual, for those families that norm it too. */
  readonly attentionPostNorm?: Value | undefined;
  readonly feedForwardPostNorm?: Value | undefined;
  /** `[C]` */
  readonly feedForwardNorm: Value;
  /** `[2F, C]`: gate, up. */
  readonly gateUp: Projection;
  /** `[C, F]` */
  readonly down: Projection;
}

/**
 * Pre-norm block with RMS norm, rotary positions, grouped key heads and a gated feed-forward: x `[N, C]` → `[N, C]`.
 * Source: Llama, arXiv 2302.13971 §2.2; grouped heads: arXiv 2305.13245 §2.2; windows: Mistral 7B, arXiv 2310.06825 §2;
 * norms of heads: arXiv 2302.05442 §2.1, with RMS norm in Qwen3, arXiv 2505.09388 §2; norms of outputs and soft caps: Gemma 2,
 * arXiv 2408.00118 §2.
 */
export function gatedBlock(
  rec: Recorder,
  c: GatedBlockConfig,
  w: GatedBlockWeights,
  { step, layer, x }: { readonly step: Step; readonly layer: number; readonly x: Value },
): Value {
  const normed = (value: Value, gain: Value | undefined) =>
    gain ? rec.name(rmsNorm(rec, value, gain, { eps: c.normEps }), "post_norm") : value;
  const attended = rec.scope("attention", () => {
    const h = rec.name(rmsNorm(rec, x, w.attentionNorm, { eps: c.normEps }), "norm");
    return normed(attention(rec, c, w, { step, layer, h }), w.attentionPostNorm);
  });
  const middle = rec.name(add(rec, x, step.dropout(rec, attended)), "attention.residual");
  const fed = rec.scope("feed_forward", () => {
    const h = rec.name(rmsNorm(rec, middle, w.feedForwardNorm, { eps: c.normEps }), "norm");
    const gateUp = rec.name(linear(rec, h, w.gateUp.weight, { bias: w.gateUp.bias }), "gate_up"); // [N, 2F]
    const active = rec.name(gatedActivation(rec, gateUp, c.activation), "activation"); // [N, F]
    return normed(rec.name(linear(rec, active, w.down.weight, { bias: w.down.bias }), "down"), w.feedForwardPostNorm); // [N, C]
  });
  return rec.name(add(rec, middle, step.dropout(rec, fed)), "output");
}

function attention(
  rec: Recorder,
  c: GatedBlockConfig,
  w: GatedBlockWeights,
  { step, layer, h }: { readonly step: Step; readonly layer: number; readonly h: Value },
): Value {
  const { heads, kvHeads, headDim, scale = headDim ** -0.5, softcap } = c;
  const query = heads * headDim;
  const keyValue = kvHeads * headDim;
  const qkv = rec.name(linear(rec, h, w.qkv.weight, { bias: w.qkv.bias }), "qkv"); // [N, (H + 2 Hkv)·D]
  const rotate = (name: "q" | "k", start: number, n: number) => {
    const part = sliceColumns(rec, qkv, start, n * headDim);
    const gain = w[`${name}Norm`];
    const normed = gain ? rec.name(rmsNorm(rec, part, gain, { eps: c.normEps, heads: n }), `${name}_norm`) : part;
    const turned = rope(rec, normed, step.rowTable, {
      table: step.constant(c.rotaryNames?.[layer] ?? "rotary"),
      heads: n,
      headDim,
      rotaryDim: c.rotary.rotaryDim,
      interleaved: c.rotary.interleaved ?? false,
    });
    return rec.name(turned, name);
  };
  const q = rotate("q", 0, heads); // [N, H·D]
  const k = rotate("k", query, kvHeads); // [N, Hkv·D]
  const v = rec.name(sliceColumns(rec, qkv, query + keyValue, keyValue), "v"); // [N, Hkv·D]
  const geometry = { heads, kvHeads, headDim, scale, softcap, window: c.windows[layer] };
  const mixed = step.attend(rec, { layer, q, k, v, ...geometry }); // [N, H·D]
  return rec.name(linear(rec, mixed, w.out.weight, { bias: w.out.bias }), "projected"); // [N, C]
}
