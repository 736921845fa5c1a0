import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { Tensor } from "../gpu/tensor.ts";
import { adamwStep } from "../ops/adamw.ts";
import { ADD } from "../ops/add.ts";
import { globalNorm } from "../ops/global_norm.ts";
import { only, type Value } from "../ops/op.ts";
import { sgdStep } from "../ops/sgd.ts";
import type { ProgramRecorder } from "../program/record.ts";
import type { Parameter } from "./parameters.ts";

/** How gradients become updates. */
export interface OptimizerSpec {
  /** `adamw`: decay apart from the gradient; `adam`: decay added to the gradient; `sgd`: with momentum if it is above 0. */
  readonly type: "adamw" | "adam" | "sgd";
  /** Defaults 0.9 and 0.999; Adam's. */
  readonly beta1?: number;
  readonly beta2?: number;
  /** Default 1e-8; Adam's. */
  readonly eps?: number;
  /** Default 0; of SGD. */
  readonly momentum?: number;
  /** Of matrices and embeddings; norms and biases do not decay. Default 0.01 for `adamw`, else 0. */
  readonly weightDecay?: number;
  /** Gradients are scaled to a global norm of at most this. Default 1; 0 clips nothing. */
  readonly clip?: number;
}

/** What an update reads beside the gradients; see {@link Optimizer.record}. */
interface UpdateInputs {
  readonly lr: Value;
  readonly step: Value;
  readonly unscale?: Value | undefined;
  readonly losses?: readonly Value[];
}

/** The kinds of {@link OptimizerSpec}. */
const OPTIMIZERS = ["adamw", "adam", "sgd"] as const;

/** An optimiser's memory: what it keeps of each parameter between steps. Dispose it when training is done. */
export class Optimizer {
  readonly spec: Required<OptimizerSpec>;
  readonly parameters: readonly Parameter[];
  /** By `<parameter>.m`, `<parameter>.v` (Adam) or `<parameter>.velocity`. */
  readonly moments = new Map<string, Tensor>();

  constructor(device: Device, parameters: readonly Parameter[], spec: OptimizerSpec) {
    this.spec = completeSpec(spec);
    this.parameters = parameters;
    const { type, momentum } = this.spec;
    const kinds = type === "sgd" ? (momentum > 0 ? ["velocity"] : []) : ["m", "v"];
    try {
      for (const { name, tensor } of parameters) {
        for (const kind of kinds) {
          const moment = `${name}.${kind}`;
          this.moments.set(moment, Tensor.create(device, moment, tensor.shape, "f32"));
        }
      }
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /**
   * Records the update of all parameters, whose gradients `grads` are in their order; `lr` `[1]` f32, `step` `[1]` u32 the steps done,
   * `unscale` `[1]` f32 the inverse of a scale that the gradients have. Returns the global norm `[1]` of the gradients before clipping, NaN where
   * one of `losses` `[1]` is not finite; where it is not finite, nothing is changed.
   */
  record(rec: ProgramRecorder, grads: readonly Value[], { lr, step, unscale, losses = [] }: UpdateInputs): Value {
    const { type, beta1, beta2, eps, momentum, clip: maxNorm } = this.spec;
    // Gradients may be finite where the loss is not: norm + 0 · loss stops both.
    const norm = losses.reduce(
      (sum, loss) => only(rec.record(ADD, { a: sum, b: loss }, { aFactor: 1, bFactor: 0 })),
      globalNorm(rec, grads, unscale),
    );
    const scaled = unscale ? { unscale } : {};
    this.parameters.forEach(({ name, tensor, decays }, i) => {
      const [param, grad] = [rec.state(tensor), grads[i] as Value];
      const decay = decays ? this.spec.weightDecay : 0;
      const moment = (kind: string) => rec.state(this.moments.get(`${name}.${kind}`) as Tensor);
      if (type === "sgd") {
        const velocity = momentum > 0 ? { velocity: moment("velocity") } : {};
        sgdStep(rec, { param, grad, lr, norm, ...scaled, ...velocity }, { momentum, weightDecay: decay, maxNorm });
        return;
      }
      const decayed = type === "adamw" ? { weightDecay: decay } : { weightDecay: 0, l2: decay };
      const moments = { m: moment("m"), v: moment("v") };
      adamwStep(
        rec,
        { param, grad, ...moments, ...scaled, norm, lr, step },
        { beta1, beta2, eps, maxNorm, ...decayed },
      );
    });
    return norm;
  }

  dispose(): void {
    for (const tensor of this.moments.values()) tensor.dispose();
  }
}

function completeSpec(spec: OptimizerSpec): Required<OptimizerSpec> {
  const { type } = spec;
  const fail = (rule: string, got: unknown) => new HeedError("USAGE", `optimizer: ${rule}; got ${String(got)}.`);
  if (!OPTIMIZERS.includes(type)) throw fail(`type must be one of ${OPTIMIZERS.join(", ")}`, JSON.stringify(type));
  const { beta1 = 0.9, beta2 = 0.999, eps = 1e-8, momentum = 0, clip = 1 } = spec;
  const weightDecay = spec.weightDecay ?? (type === "adamw" ? 0.01 : 0);
  for (const [name, value] of Object.entries({ beta1, beta2, momentum })) {
    if (!(value >= 0 && value < 1)) throw fail(`${name} must be at least 0 and below 1`, value);
  }
  for (const [name, value] of Object.entries({ weightDecay, clip })) {
    if (!(value >= 0 && value < Infinity)) throw fail(`${name} must be at least 0`, value);
  }
  if (!(eps > 0)) throw fail("eps must be above 0", eps);
  return { type, beta1, beta2, eps, momentum, weightDecay, clip };
}
