import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import {
  adaptLinears,
  type LinearModule,
  type LoraConfig,
  type LoraLayer,
  loraScale,
  targetedModules,
} from "../models/lora.ts";
import { uniformGenerator } from "./initialise.ts";
import type { Objective } from "./objective.ts";
import type { Parameter } from "./parameters.ts";

/** What an adapter that is to be trained is made of. */
export interface CreateLoraOptions extends Partial<LoraConfig> {
  /** Of the drawn matrices. Default 0. */
  readonly seed?: number;
}

/** A LoRA adapter on the GPU; {@link dispose} frees it. */
export interface Lora {
  readonly config: LoraConfig;
  readonly layers: readonly LoraLayer[];
  /** Its matrices, to be trained while the model's own stay as they are. */
  readonly parameters: readonly Parameter[];
  dispose(): void;
}

const DEFAULTS: LoraConfig = { rank: 8, alpha: 16, dropout: 0, targets: "all-linear" };

/**
 * A fresh adapter for some of a model's linear layers: A uniform in ±1/√K (PyTorch's initialisation of a linear layer, as PEFT has it), B zero, so
 * that the model computes what it did. Throws `USAGE` for sizes and targets that make no adapter.
 */
export function createLora(device: Device, modules: readonly LinearModule[], options: CreateLoraOptions = {}): Lora {
  const { seed = 0, ...given } = options;
  const config: LoraConfig = { ...DEFAULTS, ...given };
  const { rank, alpha, dropout, targets } = config;
  if (!Number.isSafeInteger(rank) || rank < 1 || !Number.isFinite(alpha) || !(dropout >= 0 && dropout < 1)) {
    throw new HeedError(
      "USAGE",
      `lora: rank must be a whole number of at least 1, alpha a number, dropout in [0, 1); got ${rank}, ${alpha}, ${dropout}.`,
    );
  }
  const uniform = uniformGenerator(seed);
  const layers: LoraLayer[] = [];
  const made: Tensor[] = [];
  const make = (name: string, shape: readonly number[], data: Float32Array): Tensor => {
    const tensor = Tensor.from(device, name, shape, "f32", data);
    made.push(tensor);
    return tensor;
  };
  try {
    for (const module of targetedModules(modules, targets)) {
      const { name, rows, columns } = module;
      const bound = 1 / Math.sqrt(columns);
      const drawn = Float32Array.from({ length: rank * columns }, () => (2 * uniform() - 1) * bound);
      const a = make(`${name}.lora_A`, [rank, columns], drawn);
      const b = make(`${name}.lora_B`, [rows, rank], new Float32Array(rows * rank));
      layers.push({ module, a, b, scale: loraScale(config) });
    }
  } catch (error) {
    for (const tensor of made) tensor.dispose();
    throw error;
  }
  return {
    config,
    layers,
    parameters: made.map((tensor) => ({ name: `${tensor.label}.weight`, tensor, decays: true })),
    dispose: () => {
      for (const tensor of made) tensor.dispose();
    },
  };
}

/** The objective with an adapter's paths beside the model's linear layers. */
export function withLora(objective: Objective, { layers, config }: Pick<Lora, "layers" | "config">): Objective {
  return {
    ...objective,
    record(context) {
      const { rec, value } = context;
      const drops = context.training && config.dropout > 0;
      const rng = drops ? (context.dropout?.rng ?? rec.input("rng", [3], "u32")) : undefined;
      adaptLinears(rec, layers, { value, ...(rng ? { dropout: { rate: config.dropout, rng } } : {}) });
      try {
        return objective.record(context);
      } finally {
        rec.onLinear = undefined;
      }
    },
  };
}
