import { activationValue } from "../../src/reference/activation.ts";
import { layerNorm } from "../../src/reference/layer_norm.ts";
import { attention } from "../../src/reference/attention.ts";
import type { TestTensor } from "./safetensors.ts";

/** The sizes of a GPT-2, by the names of its config.json. */
export interface Gpt2Sizes {
  n_layer: number;
  n_head: number;
  n_embd: number;
  vocab_size: number;
  layer_norm_epsilon: number;
}

/** What {@link gpt2Reference} computes. */
export interface Gpt2Result {
  /** `[T, V]` */
  logits: Float64Array;
  /** Everything of each block in the order of the paper, by name: `block.0.qkv`, `block.0.probs` (`[H, T, T]`), … */
  values: Map<string, Float64Array>;
}

/**
 * GPT-2 in float64 from float32 weights: plain loops, no cache. The output matrix is `lm_head.weight` if there is one, else
 * the embedding. Names and layouts are the Hub's, without the prefix `transformer.`.
 *
 * ids `[T]` → logits `[T, V]`. 12 layers of 768 with V = 50,257 take about 2 s for 8 tokens.
 * Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), §2.3.
 */
export function gpt2Reference(
  tensors: ReadonlyMap<string, TestTensor>,
  sizes: Gpt2Sizes,
  ids: readonly number[],
): Gpt2Result {
  const { n_layer, n_embd: C, vocab_size: V, layer_norm_epsilon: eps } = sizes;
  const T = ids.length;
  const values = new Map<string, Float64Array>();
  const keep = (name: string, value: Float64Array): Float64Array => {
    values.set(name, value);
    return value;
  };
  const get = (name: string): Float32Array => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`gpt2Reference: no tensor ${name}`);
    return tensor.data;
  };
  const norm = (x: Float64Array, name: string): Float64Array => {
    const [weight, bias] = [Float64Array.from(get(`${name}.weight`)), Float64Array.from(get(`${name}.bias`))];
    return layerNorm(x, weight, { N: T, C, eps, bias }).out;
  };
  const project = (x: Float64Array, name: string): Float64Array =>
    conv1d(x, get(`${name}.weight`), get(`${name}.bias`), T);

  const [wte, wpe] = [get("wte.weight"), get("wpe.weight")];
  let x = keep("embedding", new Float64Array(T * C));
  for (let i = 0; i < x.length; i++) x[i] = wte[ids[Math.floor(i / C)]! * C + (i % C)]! + wpe[i]!;
  for (let layer = 0; layer < n_layer; layer++) {
    const at = `block.${layer}`;
    const qkv = keep(`${at}.qkv`, project(keep(`${at}.ln_1`, norm(x, `h.${layer}.ln_1`)), `h.${layer}.attn.c_attn`));
    const heads = attend(qkv, T, sizes);
    keep(`${at}.probs`, heads.probs);
    const attended = keep(`${at}.attention`, project(keep(`${at}.y`, heads.out), `h.${layer}.attn.c_proj`));
    x = keep(`${at}.residual`, sum(x, attended));
    const hidden = keep(`${at}.fc`, project(keep(`${at}.ln_2`, norm(x, `h.${layer}.ln_2`)), `h.${layer}.mlp.c_fc`));
    const activated = keep(
      `${at}.gelu`,
      hidden.map((value) => activationValue("gelu_tanh", value)),
    );
    x = keep(`${at}.out`, sum(x, keep(`${at}.mlp`, project(activated, `h.${layer}.mlp.c_proj`))));
  }
  const last = keep("ln_f", norm(x, "ln_f"));
  const head = tensors.get("lm_head.weight")?.data ?? wte;
  return { logits: rowProducts(last, head, T, V, C), values };
}

/** `[T, 3C]` → out `[T, C]`, probs `[H, T, T]`. */
function attend(qkv: Float64Array, T: number, sizes: Gpt2Sizes): { out: Float64Array; probs: Float64Array } {
  const { n_head: H, n_embd: C } = sizes;
  const D = C / H;
  // [T, 3, H, D] → three of [H, T, D]
  const [q, k, v] = [0, 1, 2].map((part) =>
    Float64Array.from({ length: T * C }, (_, i) => {
      const [h, t, d] = [Math.floor(i / (T * D)), Math.floor(i / D) % T, i % D];
      return qkv[t * 3 * C + part * C + h * D + d]!;
    }),
  ) as [Float64Array, Float64Array, Float64Array];
  const { out, probs } = attention(q, k, v, { B: 1, H, Hkv: H, T, S: T, D, Dv: D }, { causal: true });
  // [H, T, D] → [T, H · D]
  const merged = Float64Array.from({ length: T * C }, (_, i) => {
    const [t, h, d] = [Math.floor(i / C), Math.floor((i % C) / D), i % D];
    return out[(h * T + t) * D + d]!;
  });
  return { out: merged, probs };
}

/** `x · weight + bias` with weight `[in, out]`, rows of the weight read once and in order. */
function conv1d(x: Float64Array, weight: Float32Array, bias: Float32Array, T: number): Float64Array {
  const O = bias.length;
  const I = weight.length / O;
  const out = new Float64Array(T * O);
  for (let t = 0; t < T; t++) out.set(bias, t * O);
  for (let i = 0; i < I; i++) {
    for (let t = 0; t < T; t++) {
      const value = x[t * I + i]!;
      for (let o = 0; o < O; o++) out[t * O + o] = out[t * O + o]! + value * weight[i * O + o]!;
    }
  }
  return out;
}

/** `x · weightᵀ` with weight `[V, C]`. */
function rowProducts(x: Float64Array, weight: Float32Array, T: number, V: number, C: number): Float64Array {
  const out = new Float64Array(T * V);
  for (let v = 0; v < V; v++) {
    for (let t = 0; t < T; t++) {
      let dot = 0;
      for (let c = 0; c < C; c++) dot += x[t * C + c]! * weight[v * C + c]!;
      out[t * V + v] = dot;
    }
  }
  return out;
}

function sum(a: Float64Array, b: Float64Array): Float64Array {
  return a.map((value, i) => value + b[i]!);
}
