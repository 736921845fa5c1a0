import { numel } from "../core/shape.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { mapRules, type Model, type WeightRule, type WeightTree } from "../models/family.ts";

/** How fresh parameters are drawn. */
export interface InitialiseOptions {
  readonly seed: number;
  /**
   * `gpt2` (default): matrices normal with `std`, those that end a residual branch with `std / √(2 L)` (GPT-2, §2.3). `xavier`: linear
   * layers uniform in ±√(6 / (in + out)) (Glorot and Bengio (2010), eq. 16), embeddings normal with `C^−½`.
   */
  readonly scheme?: "gpt2" | "xavier";
  /** Standard deviation of matrices in `gpt2`; default 0.02. */
  readonly std?: number;
}

/** Last layers of residual branches, as checkpoints call them. */
const RESIDUAL = /(c_proj|o_proj|out_proj|down_proj|dense_4h_to_h|attention\.dense|fc2)\.weight$/;
const EMBEDDING = /(embed\w*|wte|wpe|shared|embeddings?|word_embeddings)\.weight$/;

/** Fresh f32 parameters: matrices drawn, biases 0, norm gains 1. The caller disposes every tensor of the tree. */
export function initialise(device: Device, model: Model, options: InitialiseOptions): WeightTree<Tensor> {
  const normal = normalGenerator(options.seed);
  const uniform = uniformGenerator(options.seed ^ 0x5bd1e995);
  const { scheme = "gpt2", std = 0.02 } = options;
  const made = new Map<WeightRule, Tensor>();
  const residual = std / Math.sqrt(2 * residualLayers(model));
  const draw = ({ shape, rows, from, role }: WeightRule): Float32Array => {
    const name = from[0] ?? "";
    const data = new Float32Array(numel(shape));
    if (role === "vector") return data.fill(name.endsWith("bias") ? 0 : 1);
    if (scheme === "gpt2") {
      const deviation = RESIDUAL.test(name) ? residual : std;
      return data.map(() => normal() * deviation);
    }
    const [total = 1, columns = 1] = shape;
    if (EMBEDDING.test(name)) return data.map(() => normal() * columns ** -0.5);
    // A joined matrix is several layers of as many rows each.
    const limit = Math.sqrt(6 / ((rows?.[0] ?? total) + columns));
    return data.map(() => (2 * uniform() - 1) * limit);
  };
  try {
    return mapRules(model.rules, (rule: WeightRule) => {
      const tensor = made.get(rule) ?? Tensor.from(device, rule.from[0] ?? "parameter", rule.shape, "f32", draw(rule));
      made.set(rule, tensor);
      return tensor;
    });
  } catch (error) {
    for (const tensor of made.values()) tensor.dispose();
    throw error;
  }
}

/** Residual branches end in two matrices a layer. */
function residualLayers(model: Model): number {
  let ends = 0;
  mapRules(model.rules, ({ from, role }) => {
    if (role === "matrix" && RESIDUAL.test(from[0] ?? "")) ends++;
  });
  return Math.max(1, Math.round(ends / 2));
}

/** Standard normal numbers from a seed: mulberry32 through Box and Muller's transform. */
export function normalGenerator(seed: number): () => number {
  const uniform = uniformGenerator(seed);
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** Uniform numbers in [0, 1) from a seed. */
export function uniformGenerator(seed: number): () => number {
  const generator = new UniformGenerator(seed);
  return () => generator.next();
}

/** Uniform numbers in [0, 1) (mulberry32), whose state can be kept and set. */
export class UniformGenerator {
  /** A whole number below 2³²; what comes next depends on it alone. */
  state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), this.state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
}
