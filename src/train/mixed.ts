import { HeedError } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { castF16 } from "../ops/cast.ts";
import type { Value } from "../ops/op.ts";
import type { ProgramRecorder } from "../program/record.ts";

/** `f32`: everything. `mixed`: the products of linear layers, forward and backward, of f16, under a scaled loss; everything else f32. */
export type Precision = "f32" | "mixed";

/** The kinds of {@link Precision}. */
export const PRECISIONS = ["f32", "mixed"] as const;

/** How the scale of a loss begins and grows (Micikevicius et al. 2018, "Mixed Precision Training", §3.2). */
export interface LossScaleOptions {
  /** Default 65,536. */
  readonly initial?: number;
  /** Updates in a row without overflow after which the scale doubles. Default 2,000. */
  readonly growEvery?: number;
}

/** What a {@link LossScale} goes on from. */
export interface LossScaleState {
  readonly scale: number;
  /** Updates since it last changed. */
  readonly good: number;
}

const LARGEST = 2 ** 40;

/**
 * What the gradients of a loss are multiplied by, so that small ones do not vanish in f16: a power of two, halved when a gradient
 * overflows, doubled when none has for long.
 */
export class LossScale {
  readonly #growEvery: number;
  #scale: number;
  #good = 0;

  /** Throws `USAGE` for an initial scale that is no power of two from 1 to 2⁴⁰, or a growth that never comes. */
  constructor({ initial = 65536, growEvery = 2000 }: LossScaleOptions = {}) {
    if (!(initial >= 1 && initial <= LARGEST && Number.isInteger(Math.log2(initial)))) {
      throw new HeedError("USAGE", `loss scale: initial must be a power of two from 1 to 2^40; got ${initial}.`);
    }
    if (!Number.isSafeInteger(growEvery) || growEvery < 1) {
      throw new HeedError("USAGE", `loss scale: growEvery must be a whole number of at least 1; got ${growEvery}.`);
    }
    this.#scale = initial;
    this.#growEvery = growEvery;
  }

  get scale(): number {
    return this.#scale;
  }

  state(): LossScaleState {
    return { scale: this.#scale, good: this.#good };
  }

  restore({ scale, good }: LossScaleState): void {
    this.#scale = scale;
    this.#good = good;
  }

  /** After an update that was done. */
  fits(): void {
    this.#good++;
    if (this.#good < this.#growEvery) return;
    this.#scale = Math.min(LARGEST, 2 * this.#scale);
    this.#good = 0;
  }

  /** After gradients that were not finite: true if a smaller scale may mend it. */
  overflows(): boolean {
    if (this.#scale <= 1) return false;
    this.#scale /= 2;
    this.#good = 0;
    return true;
  }
}

/** Throws `UNSUPPORTED` for mixed precision on a device without f16. */
export function checkPrecision(device: Device, precision: Precision): void {
  if (precision === "f32" || device.facts.f16) return;
  throw new HeedError(
    "UNSUPPORTED",
    `train: precision mixed needs the GPU feature shader-f16; this device has tier ${device.facts.tier} without it. Train with precision f32.`,
  );
}

/**
 * From now on linear layers take x and trained weights in f16: x once for all layers that share it, a weight once a step from its f32
 * master. Sums are f32, and so are results, biases and the gradients of weights.
 */
export function recordMixed(rec: ProgramRecorder): void {
  const made = new Map<Value, Value>();
  const half = (value: Value): Value => {
    const known = made.get(value) ?? castF16(rec, value);
    made.set(value, known);
    return known;
  };
  rec.beforeLinear = (inputs) => {
    const { x, weight } = inputs;
    if (!x || !weight) return inputs;
    // What is frozen stays as it was loaded; a master in several row parts would have no room as one f16.
    const isMaster = weight.kind === "state" && weight.dtype === "f32" && weight.tensor?.parts.length === 1;
    return { ...inputs, x: x.dtype === "f32" ? half(x) : x, weight: isMaster ? half(weight) : weight };
  };
}
