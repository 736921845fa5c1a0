import { f32BitsToF16Bits } from "../formats/convert.ts";
import type { Value } from "../ops/op.ts";
import { gradientsFrom } from "../program/autodiff.ts";
import type { HostArray } from "../program/host_array.ts";
import type { ProgramRecorder } from "../program/record.ts";
import type { HostTensor } from "../program/run_ops.ts";

/** A small golden case: an op on numbers of its own, and what the float64 reference makes of them. */
export interface SelfTestCase {
  readonly name: string;
  readonly inputs: Readonly<Record<string, HostTensor>>;
  record(rec: ProgramRecorder, values: Readonly<Record<string, Value>>): Record<string, Value>;
  /** Joins layers into fewer kernels, as models do. Default false: each op runs its own. */
  readonly fuse?: boolean;
  /** The numbers to compare, where an output's words are not those themselves. */
  read?(words: HostArray): ArrayLike<number>;
  /** By output; computed when it is needed. */
  expected(): Readonly<Record<string, ArrayLike<number>>>;
}

/** Numbers with their shape. */
export interface Numbers {
  readonly shape: readonly number[];
  readonly values: Float64Array;
}

/** Numbers in [−1, 1] that f16 holds exactly, from a fixed sequence. */
export function numbers(seed: number, ...shape: number[]): Numbers {
  let state = seed * 2654435761 + 1;
  const next = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return ((state >>> 8) % 513) / 256 - 1;
  };
  return { shape, values: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, next) };
}

/** As f32. */
export function f32({ shape, values }: Numbers): HostTensor {
  return { shape, data: Float32Array.from(values) };
}

/** As f16. */
export function f16({ shape, values }: Numbers): HostTensor {
  const bits = new Uint32Array(Float32Array.from(values).buffer);
  return { shape, data: Uint16Array.from(bits, f32BitsToF16Bits) };
}

/** Whole numbers, `[n]`. */
export function u32(...values: number[]): HostTensor {
  return { shape: [values.length], data: Uint32Array.from(values) };
}

/** The values of a case's inputs. */
export type Values = Readonly<Record<string, Value>>;

/** Names the value of an input; the case gave it. */
export function at(values: Values, name: string): Value {
  return values[name] as Value;
}

/** Records an op and, where the case has a dout, the gradients of `Σ out · dout` as `d<input>`. */
export function withGradients(
  rec: ProgramRecorder,
  values: Values,
  names: readonly string[],
  record: () => Value,
): Record<string, Value> {
  const out = record();
  if (!values["dout"]) return { out };
  const wrt = names.map((name) => at(values, name));
  const grads = gradientsFrom(rec, new Map([[out, at(values, "dout")]]), wrt);
  return { out, ...Object.fromEntries(names.map((name, i) => [`d${name}`, grads[i] as Value])) };
}
