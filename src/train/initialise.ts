import { numel } from "../core/shape.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { type Decoder, mapRules, type WeightRule, type WeightTree } from "../models/family.ts";

/** How fresh parameters are drawn. */
export interface InitialiseOptions {
  readonly seed: number;
  /** Standard deviation of matrices; default 0.02 (GPT-2). */
  readonly std?: number;
}

/** Fresh f32 parameters: matrices normal, biases 0, norm gains 1. The caller disposes every tensor of the tree. */
export function initialise(device: Device, decoder: Decoder, options: InitialiseOptions): WeightTree<Tensor> {
  const normal = normalGenerator(options.seed);
  const std = options.std ?? 0.02;
  return mapRules(decoder.rules, (rule: WeightRule) => {
    const name = rule.from[0] ?? "parameter";
    const data = new Float32Array(numel(rule.shape));
    if (rule.role === "matrix") for (let i = 0; i < data.length; i++) data[i] = normal() * std;
    else data.fill(name.endsWith("bias") ? 0 : 1);
    return Tensor.from(device, name, rule.shape, "f32", data);
  });
}

/** Standard normal numbers from a seed: mulberry32 through Box and Muller's transform. */
export function normalGenerator(seed: number): () => number {
  const uniform = uniformGenerator(seed);
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** Uniform numbers in [0, 1) from a seed (mulberry32). */
export function uniformGenerator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
