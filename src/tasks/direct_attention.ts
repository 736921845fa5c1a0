import { HeedError } from "../core/errors.ts";
import { formatShape, shapeError } from "../core/shape.ts";
import { Tensor } from "../gpu/tensor.ts";
import { attention, type AttentionOptions } from "../ops/attention.ts";
import type { Value } from "../ops/op.ts";
import { gradientsFrom } from "../program/autodiff.ts";
import type { ArrayTensor, DirectCall, DirectOptions, OpInput } from "../program/direct.ts";

/** A number for the whole batch, or one for each sequence: `[B]`. */
export type PerBatch = number | readonly number[] | OpInput;

/** A boolean mask on the host: not 0 where a key may be attended to. */
export interface ByteMask {
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** The specification of attention, for direct calls: options that are tensors are given as {@link OpInput}. */
export interface AttentionCallOptions extends DirectOptions {
  /** Of q·k; default `1 / √D`. */
  readonly scale?: number;
  /** Keep keys j ≤ p; query i stands at key position `p = i + queryStart`. Default false. */
  readonly causal?: boolean;
  /** n: the own key and the n − 1 before it; or `{left, right}`. Hides keys of the prefix too. */
  readonly window?: number | { readonly left?: number; readonly right?: number };
  /** Key position of the first query. Default 0. */
  readonly queryStart?: PerBatch;
  /** With `causal`: keys j < prefix are kept for every query. Default 0. */
  readonly prefix?: PerBatch;
  /** Keep keys j < keyLengths. Default: all S keys. */
  readonly keyLengths?: PerBatch;
  /** `[B|1, H|1, T|1, S]`: bytes or u32, not 0 where a key may be attended to; or f32, added to the scores. */
  readonly mask?: OpInput | ByteMask;
  /** `[B|1, H|1, T|1, S]` f32, added to the scores; values ≤ −1e30 mask. */
  readonly bias?: OpInput;
  /** `[H]` f32: adds `slope · (j − p)`; see `alibiSlopes`. */
  readonly alibiSlopes?: OpInput;
  /** `c · tanh(score / c)`. */
  readonly softcap?: number;
  /** `[H]` f32: one more logit a head, in the denominator only. */
  readonly sinks?: OpInput;
  /** T5's relative position bias; weight `[buckets, H]` f32. */
  readonly relativeBias?: {
    readonly weight: OpInput;
    readonly bidirectional?: boolean;
    readonly maxDistance?: number;
  };
  /** Drops weights; rng `[3]` u32 (seed, seed, step). */
  readonly dropout?: { readonly rate: number; readonly rng: OpInput };
  /** `hard`: the one-hot of the largest score. Default `soft`. */
  readonly selection?: "soft" | "hard";
  /** Also give the log-sum-exp of each row. */
  readonly keep?: "lse";
  /** Overrules the choice of kernel, for tests and tuning. */
  readonly kernel?: AttentionOptions["kernel"];
}

/** A specification taken apart: what is bound, what the plan is kept by, and how both become the op's options again. */
export interface AttentionProgram {
  readonly inputs: Readonly<Record<string, OpInput | undefined>>;
  readonly attrs: Readonly<Record<string, unknown>>;
  /** The options of the recorded op, for values of `inputs`. */
  options(values: Readonly<Record<string, Value | undefined>>): AttentionOptions;
}

/** The slopes of ALiBi's paper for a number of heads: `2^(−8(h+1)/H)`. Press et al., "Train Short, Test Long" (2022), §3. */
export function alibiSlopes(heads: number): ArrayTensor<Float32Array> {
  return { shape: [heads], data: Float32Array.from({ length: heads }, (_, h) => 2 ** ((-8 * (h + 1)) / heads)) };
}

/** The names of options that are tensors, or may be. */
const TENSORS = ["mask", "bias", "alibiSlopes", "sinks"] as const;
const PER_BATCH = ["queryStart", "prefix", "keyLengths"] as const;

/** Takes the options of a direct call apart. Throws `SHAPE` or `USAGE`. */
export function attentionProgram(
  { q, k, v }: Readonly<Record<"q" | "k" | "v", OpInput>>,
  options: AttentionCallOptions,
): AttentionProgram {
  const sizes = sizesOf(q, k, v);
  const inputs: Record<string, OpInput | undefined> = { q, k, v };
  const { as: _, signal: __, onKernels: ___, relativeBias, dropout, ...rest } = options;
  const attrs: Record<string, unknown> = { ...sizes, ...rest };
  for (const name of TENSORS) {
    const given = options[name];
    delete attrs[name];
    if (given !== undefined) inputs[name] = asWords(given);
  }
  for (const name of PER_BATCH) {
    const given = options[name];
    if (given === undefined || typeof given === "number") continue;
    delete attrs[name];
    inputs[name] = Array.isArray(given)
      ? { shape: [given.length], data: positionsOf(name, given) }
      : (given as OpInput);
  }
  if (relativeBias) inputs["relativeBias"] = relativeBias.weight;
  if (dropout) inputs["rng"] = dropout.rng;
  const shared = { bidirectional: relativeBias?.bidirectional, maxDistance: relativeBias?.maxDistance };
  return {
    inputs,
    attrs: { ...attrs, ...shared, rate: dropout?.rate },
    options(values) {
      const bound = Object.fromEntries([...TENSORS, ...PER_BATCH].flatMap((n) => (values[n] ? [[n, values[n]]] : [])));
      const { relativeBias: weight, rng } = values;
      return {
        ...attrs,
        ...bound,
        ...(weight ? { relativeBias: { weight, ...shared } } : {}),
        ...(dropout && rng ? { dropout: { rate: dropout.rate, rng } } : {}),
      } as unknown as AttentionOptions;
    },
  };
}

type AnyCall = DirectCall<Readonly<Record<string, OpInput | undefined>>>;

/** The direct call of fused attention, and how it runs. */
export function attentionCall(
  qkv: Readonly<Record<"q" | "k" | "v", OpInput>>,
  options: AttentionCallOptions,
): { call: AnyCall; run: DirectOptions } {
  const { inputs, attrs, options: optionsOf } = attentionProgram(qkv, options);
  const call: AnyCall = {
    op: "attention",
    inputs,
    attrs,
    record(rec, values): Record<string, Value> {
      const { out, lse } = attention(rec, bound(values), optionsOf(values));
      return lse ? { out, lse } : { out };
    },
  };
  return { call, run: runOf(options) };
}

/** The direct call of attention's gradients, and how it runs. */
export function attentionBackwardCall(
  { dout, ...qkv }: Readonly<Record<"q" | "k" | "v" | "dout", OpInput>>,
  options: AttentionCallOptions,
): { call: AnyCall; run: DirectOptions } {
  if (options.keep !== undefined) {
    throw new HeedError("UNSUPPORTED", 'attention_backward: keep is for the forward call; got "lse". Leave it out.');
  }
  const { inputs, attrs, options: optionsOf } = attentionProgram(qkv, options);
  const call: AnyCall = {
    op: "attention_backward",
    inputs: { ...inputs, dout },
    attrs,
    record(rec, values) {
      const { out } = attention(rec, bound(values), optionsOf(values));
      return gradientsOf(rec, out, values);
    },
  };
  return { call, run: runOf(options) };
}

/** The gradients of q, k, v, and of a bias, sinks and a relative bias where they are given, by their names. */
export function gradientsOf(
  rec: Parameters<typeof gradientsFrom>[0],
  out: Value,
  values: Readonly<Record<string, Value | undefined>>,
): Record<string, Value> {
  const { dout } = values;
  if (!dout || formatShape(dout.shape) !== formatShape(out.shape)) {
    const got = dout ? formatShape(dout.shape) : "nothing";
    throw shapeError("attention_backward", `dout must be [B, H, T, Dv] = ${formatShape(out.shape)} f32`, `dout ${got}`);
  }
  const names = ["q", "k", "v", "bias", "sinks", "relativeBias"].filter((name) => values[name] !== undefined);
  const wrt = names.map((name) => values[name] as Value);
  const grads = gradientsFrom(rec, new Map([[out, dout]]), wrt);
  return Object.fromEntries(names.map((name, i) => [`d${name}`, grads[i] as Value]));
}

function bound(values: Readonly<Record<string, Value | undefined>>): { q: Value; k: Value; v: Value } {
  return values as Record<"q" | "k" | "v", Value>;
}

function runOf({ as, signal, onKernels }: AttentionCallOptions): DirectOptions {
  return { as, signal, onKernels };
}

function sizesOf(q: OpInput, k: OpInput, v: OpInput) {
  const [qs, ks, vs] = [q?.shape, k?.shape, v?.shape];
  if (qs?.length !== 4 || ks?.length !== 4 || vs?.length !== 4) {
    const got = Object.entries({ q: qs, k: ks, v: vs }).map(([name, s]) => `${name} ${s ? formatShape(s) : "nothing"}`);
    throw shapeError("attention", "q must be [B, H, T, D], k [B, Hkv, S, D] and v [B, Hkv, S, Dv]", got.join(", "));
  }
  const [batch, heads, queryLength, headDim] = qs as [number, number, number, number];
  const [, kvHeads, keyLength] = ks as [number, number, number, number];
  const valueDim = vs[3] as number;
  return { batch, heads, queryLength, headDim, kvHeads, keyLength, valueDim, layout: "bhtd" };
}

/** Bytes as the u32 that kernels read. */
function asWords(given: OpInput | ByteMask): OpInput {
  if (given instanceof Tensor || !(given.data instanceof Uint8Array)) return given as OpInput;
  return { shape: given.shape, data: Uint32Array.from(given.data) };
}

function positionsOf(name: string, values: readonly number[]): Uint32Array {
  for (const value of values) {
    if (Number.isInteger(value) && value >= 0 && value < 2 ** 30) continue;
    throw new HeedError("USAGE", `attention: ${name} must be key positions from 0; got ${values.join(", ")}.`);
  }
  return Uint32Array.from(values);
}
