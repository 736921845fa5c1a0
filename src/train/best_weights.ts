import { HeedError } from "../core/errors.ts";
import { numel, type Shape } from "../core/shape.ts";
import type { Source } from "../core/source.ts";
import type { Tensor } from "../gpu/tensor.ts";
import type { Parameter } from "./parameters.ts";
import { encodeTensors, type F32Target, restoreTensors } from "./training_state.ts";

/** Which weights a training ends with: those of the evaluation with the lowest loss, or those of the last update. */
export const KEEPS = ["best", "last"] as const;

/** One of {@link KEEPS}. */
export type Keep = (typeof KEEPS)[number];

/** The evaluation with the lowest held-out loss. */
export interface BestEvaluation {
  /** Updates done at the time. */
  readonly step: number;
  readonly loss: number;
}

/** The best weights, in a checkpoint. */
const BEST = "best.safetensors";

/**
 * The weights of the best evaluation, as a copy in host memory of what is trained: 4 bytes a number. Frozen parameters are not among
 * them. {@link use} puts them in the place of the last update's, which are then held in their stead, so that a checkpoint still has both.
 */
export class BestWeights {
  readonly #parameters: readonly Parameter[];
  /** The best, or the last while the best are in use. */
  #held: ReadonlyMap<Tensor, ArrayBuffer> | undefined;
  #inUse = false;

  constructor(parameters: readonly Parameter[]) {
    this.#parameters = parameters;
  }

  /** True while the best weights are those on the GPU. */
  get inUse(): boolean {
    return this.#inUse;
  }

  /** Copies the weights of the moment, which are the best so far. */
  async take(): Promise<void> {
    this.#held = await this.#read();
  }

  /** Puts the best weights in the place of the last ones, if there are any and they are not there yet. */
  async use(): Promise<void> {
    const best = this.#held;
    if (!best || this.#inUse) return;
    this.#held = await this.#read();
    for (const [tensor, bytes] of best) tensor.write(0, new Uint8Array(bytes));
    this.#inUse = true;
  }

  /** A tensor's bytes as the last update left them. */
  async readLast(tensor: Tensor): Promise<ArrayBuffer> {
    return (this.#inUse ? this.#held?.get(tensor) : undefined) ?? tensor.read();
  }

  /** The file of a checkpoint; none before the first evaluation. */
  async encode(best: BestEvaluation): Promise<[name: string, content: readonly Uint8Array[]][]> {
    const held = this.#held;
    if (!held) return [];
    const read = async (tensor: Tensor) => (this.#inUse ? undefined : held.get(tensor)) ?? tensor.read();
    const named = this.#parameters.map(({ name, tensor }) => [name, tensor] as const);
    return [[BEST, await encodeTensors(named, { read, metadata: metadataOf(best) })]];
  }

  /**
   * Reads what {@link encode} gave for the evaluation that the checkpoint names. Throws `USAGE` where the checkpoint has no best weights,
   * `BAD_FILE` where they are others.
   */
  async restore(from: Source, best: BestEvaluation): Promise<void> {
    if (!(await from.open(BEST))) {
      throw new HeedError(
        "USAGE",
        `train: to keep the best weights, a checkpoint must have those so far; got none in ${from.description}, although step ${best.step} was the best: the run kept its last ones. Go on with keep "last".`,
      );
    }
    const copies = new Map<Tensor, ArrayBuffer>();
    const targets = this.#parameters.map(({ name, tensor }) => {
      const copy = new ArrayBuffer(4 * numel(tensor.shape));
      copies.set(tensor, copy);
      return [name, hostTarget(tensor.shape, new Uint8Array(copy))] as const;
    });
    const { step, loss } = await restoreTensors(from, BEST, targets);
    const said = metadataOf(best);
    if (step !== said["step"] || loss !== said["loss"]) {
      throw new HeedError(
        "BAD_FILE",
        `train: ${BEST} in ${from.description} must be of step ${best.step} with loss ${best.loss}; got step ${step}, loss ${loss}.`,
      );
    }
    this.#held = copies;
    this.#inUse = false;
  }

  async #read(): Promise<ReadonlyMap<Tensor, ArrayBuffer>> {
    const copies = new Map<Tensor, ArrayBuffer>();
    for (const { tensor } of this.#parameters) copies.set(tensor, await tensor.read());
    return copies;
  }
}

/** Numbers in JSON's shortest form, from which the same numbers are read. */
function metadataOf({ step, loss }: BestEvaluation): Record<string, string> {
  return { step: String(step), loss: String(loss) };
}

function hostTarget(shape: Shape, bytes: Uint8Array): F32Target {
  return { shape, write: (offsetBytes, data) => bytes.set(data, offsetBytes) };
}
