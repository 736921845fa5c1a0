import { HeedError } from "../core/errors.ts";
import { formatShape, formatTensor, numel, shapeError } from "../core/shape.ts";
import { Tensor } from "../gpu/tensor.ts";
import { attention, type AttentionOptions } from "../ops/attention.ts";
import { attentionRagged, raggedSequences } from "../ops/attention_ragged.ts";
import type { Recorder, Value } from "../ops/op.ts";
import { gradientsFrom } from "../program/autodiff.ts";
import type { ArrayTensor, DirectCall, DirectOptions, OpInput } from "../program/direct.ts";
import { checkCall, type KindName } from "./direct_checks.ts";
import { type CaptureRequest, DirectCapture } from "./direct_capture.ts";

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
  /**
   * `[B + 1]`: a ragged batch. q is `[1, H, ΣT, D]`, or packed `[ΣT, H, D]`, and sequence b has the queries from `queryOffsets[b]` to
   * the next offset; k and v alike. What is one per sequence is `[B]`; a bias or mask is that of the longest sequence.
   */
  readonly queryOffsets?: readonly number[];
  /** `[B + 1]`: the same of the keys. Default: `queryOffsets`. */
  readonly keyOffsets?: readonly number[];
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
  /** Also give the weights of heads and query rows, or summaries of them, as `captured`; `true` for all weights. */
  readonly capture?: true | CaptureRequest;
  /** Overrules the choice of kernel, for tests and tuning. */
  readonly kernel?: AttentionOptions["kernel"];
}

/** A specification taken apart: what is bound, what the plan is kept by, and how both become the op's options again. */
export interface AttentionProgram {
  readonly inputs: Readonly<Record<string, OpInput | undefined>>;
  readonly attrs: Readonly<Record<string, unknown>>;
  /** q, k and v are `[ΣT, H, D]`: so are out and the gradients. */
  readonly isPacked: boolean;
  /** The options of the recorded op, for values of `inputs`. */
  options(values: Readonly<Record<string, Value | undefined>>): AttentionOptions;
}

/** The slopes of ALiBi's paper for a number of heads: `2^(−8(h+1)/H)`. Press et al., "Train Short, Test Long" (2022), §3. */
export function alibiSlopes(heads: number): ArrayTensor<Float32Array> {
  return { shape: [heads], data: Float32Array.from({ length: heads }, (_, h) => 2 ** ((-8 * (h + 1)) / heads)) };
}

const OPTION_KINDS: Readonly<Record<string, KindName>> = {
  ...{ scale: "number", causal: "boolean", window: "window", softcap: "number", selection: "text" },
  ...{
    queryStart: "perBatch",
    prefix: "perBatch",
    keyLengths: "perBatch",
    queryOffsets: "numbers",
    keyOffsets: "numbers",
  },
  ...{ mask: "tensor", bias: "tensor", alibiSlopes: "tensor", sinks: "tensor", relativeBias: "relative" },
  ...{ dropout: "dropout", keep: "text", kernel: "text", capture: "capture" },
};

/** The names of options that are tensors, or may be. */
const TENSORS = ["mask", "bias", "alibiSlopes", "sinks"] as const;
/** Options that say nothing of what is computed. */
const CALL_OPTIONS: readonly string[] = ["as", "signal", "deterministic", "onKernels", "onPlan", "capture"];
const PER_BATCH = ["queryStart", "prefix", "keyLengths"] as const;

/** Takes the options of a direct call apart. Throws `SHAPE` or `USAGE`. */
export function attentionProgram(
  { q, k, v }: Readonly<Record<"q" | "k" | "v", OpInput>>,
  options: AttentionCallOptions,
): AttentionProgram {
  checkCall("attention", { q, k, v }, options, OPTION_KINDS);
  const isRagged = options.queryOffsets !== undefined || options.keyOffsets !== undefined;
  const { isPacked, ...sizes } = sizesOf(q, k, v, isRagged);
  const inputs: Record<string, OpInput | undefined> = isPacked
    ? { q: asRows(q), k: asRows(k), v: asRows(v) }
    : { q, k, v };
  const { relativeBias, dropout, ...others } = options;
  const rest = Object.fromEntries(Object.entries(others).filter(([name]) => !CALL_OPTIONS.includes(name)));
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
    isPacked,
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

/** A call, how it runs, and what becomes of its results. */
export interface PreparedCall {
  readonly call: AnyCall;
  readonly run: DirectOptions;
  finish(results: Record<string, OpInput>): Promise<Record<string, unknown>>;
}

/** The direct call of fused attention, and how it runs. */
export function attentionCall(
  qkv: Readonly<Record<"q" | "k" | "v", OpInput>>,
  options: AttentionCallOptions,
): PreparedCall {
  const program = attentionProgram(qkv, options);
  const capture = captureOf(program, options);
  const call: AnyCall = {
    op: "attention",
    inputs: { ...program.inputs, ...capture?.inputs },
    attrs: capture ? { ...program.attrs, capture: capture.attrs } : program.attrs,
    record(rec, values): Record<string, Value> {
      const spec = program.options(values);
      const { out, lse, captured } = capture
        ? recordCaptured(rec, capture, bound(values), spec, values)
        : { ...attention(rec, bound(values), spec), captured: {} };
      return lse && spec.keep ? { out, lse, ...captured } : { out, ...captured };
    },
  };
  const finish = async (results: Record<string, OpInput>) => {
    const captured = await capture?.read(results);
    const { out, ...rest } = results;
    return {
      out: program.isPacked ? unpacked(out as OpInput, qkv.q) : out,
      ...rest,
      ...(captured ? { captured } : {}),
    };
  };
  return { call, run: runOf(options), finish };
}

/** Groups of sequences that a call captures together: all of a batch, or each of a ragged one. */
function captureOf({ attrs }: AttentionProgram, options: AttentionCallOptions): DirectCapture | undefined {
  const { capture, queryOffsets, keyOffsets, queryStart = 0 } = options;
  if (!capture) return undefined;
  const { batch, heads, queryLength, keyLength } = attrs as Record<
    "batch" | "heads" | "queryLength" | "keyLength",
    number
  >;
  const startOf = (b: number): number => {
    if (typeof queryStart === "number") return queryStart;
    const { data } = queryStart as ArrayTensor;
    const starts = Array.isArray(queryStart) ? (queryStart as readonly number[]) : data;
    if (starts) return starts[b] ?? 0;
    const rule = "a capture needs to know queryStart on the host";
    throw new HeedError("USAGE", `attention: ${rule}; got a tensor on the GPU. Give a number or an array.`);
  };
  const sequences =
    queryOffsets || keyOffsets ? raggedSequences({ queryOffsets, keyOffsets }, { queryLength, keyLength }) : undefined;
  const groups = sequences
    ? sequences.map(({ queries, keys }, b) => ({
        ...{ first: b, count: 1, queryLength: queries.length, starts: [startOf(b)] },
        keyLength: Math.max(1, keys.length),
      }))
    : [{ first: 0, count: batch, queryLength, keyLength, starts: Array.from({ length: batch }, (_, b) => startOf(b)) }];
  return new DirectCapture(capture, heads, groups, options as unknown as AttentionOptions);
}

function recordCaptured(
  rec: Recorder,
  capture: DirectCapture,
  qkv: { q: Value; k: Value; v: Value },
  spec: AttentionOptions,
  values: Readonly<Record<string, Value | undefined>>,
): { out: Value; lse?: Value; captured: Record<string, Value> } {
  if (!spec.queryOffsets && !spec.keyOffsets) return capture.record(rec, qkv, spec, { group: 0, values });
  const captured: Record<string, Value> = {};
  const joined = attentionRagged(rec, qkv, spec, (_, own, options, b) => {
    const result = capture.record(rec, own, options, { group: b, values });
    Object.assign(captured, result.captured);
    return result;
  });
  return { ...joined, captured };
}

/** The direct call of attention's gradients, and how it runs. */
export function attentionBackwardCall(
  { dout, ...qkv }: Readonly<Record<"q" | "k" | "v" | "dout", OpInput>>,
  options: AttentionCallOptions,
): PreparedCall {
  for (const name of ["keep", "capture"] as const) {
    if (options?.[name] === undefined) continue;
    throw new HeedError("UNSUPPORTED", `attention_backward: ${name} is for the forward call. Leave it out.`);
  }
  const { inputs, attrs, isPacked, options: optionsOf } = attentionProgram(qkv, options);
  const call: AnyCall = {
    op: "attention_backward",
    inputs: { ...inputs, dout: isPacked ? asRows(dout) : dout },
    attrs,
    record(rec, values) {
      const { out } = attention(rec, bound(values), optionsOf(values));
      return gradientsOf(rec, out, values);
    },
  };
  const finish = async (results: Record<string, OpInput>) => {
    if (!isPacked) return results;
    const { dq, dk, dv, ...rest } = results as Record<string, OpInput> & Record<"dq" | "dk" | "dv", OpInput>;
    return { ...rest, dq: unpacked(dq, qkv.q), dk: unpacked(dk, qkv.k), dv: unpacked(dv, qkv.v) };
  };
  return { call, run: runOf(options), finish };
}

/** The gradients of q, k, v, and of a bias, sinks and a relative bias where they are given, by their names. */
export function gradientsOf(
  rec: Parameters<typeof gradientsFrom>[0],
  out: Value,
  values: Readonly<Record<string, Value | undefined>>,
): Record<string, Value> {
  const { dout } = values;
  if (!dout || formatShape(dout.shape) !== formatShape(out.shape) || dout.dtype !== "f32") {
    const got = dout ? formatTensor("dout", dout) : "dout nothing";
    throw shapeError("attention_backward", `dout must be [B, H, T, Dv] = ${formatShape(out.shape)} f32`, got);
  }
  if (numel(out.shape) === 0) {
    throw shapeError("attention_backward", "B and T must be at least 1", `out ${formatShape(out.shape)}`);
  }
  const names = ["q", "k", "v", "bias", "sinks", "relativeBias"].filter((name) => values[name] !== undefined);
  const wrt = names.map((name) => values[name] as Value);
  const grads = gradientsFrom(rec, new Map([[out, dout]]), wrt);
  return Object.fromEntries(names.map((name, i) => [`d${name}`, grads[i] as Value]));
}

function bound(values: Readonly<Record<string, Value | undefined>>): { q: Value; k: Value; v: Value } {
  return values as Record<"q" | "k" | "v", Value>;
}

function runOf({ as, signal, deterministic, onKernels, onPlan }: AttentionCallOptions): DirectOptions {
  return { as, signal, deterministic, onKernels, onPlan };
}

/** Sizes from the tensors, `[B, H, T, D]`, or `[ΣT, H, D]` of a ragged batch. */
function sizesOf(q: OpInput, k: OpInput, v: OpInput, isRagged: boolean) {
  const shapes = [q?.shape, k?.shape, v?.shape] as (readonly number[] | undefined)[];
  const isPacked = isRagged && shapes.every((s) => s?.length === 3);
  if (!isPacked && !shapes.every((s) => Array.isArray(s) && s.length === 4)) {
    const got = ["q", "k", "v"].map(
      (name, i) => `${name} ${Array.isArray(shapes[i]) ? formatShape(shapes[i]) : "nothing"}`,
    );
    const packed = isRagged ? ", or [ΣT, H, D] and so on" : "";
    throw shapeError(
      "attention",
      `q must be [B, H, T, D], k [B, Hkv, S, D] and v [B, Hkv, S, Dv]${packed}`,
      got.join(", "),
    );
  }
  const [qs, ks, vs] = shapes.map((s) => (isPacked ? [1, s?.[1], s?.[0], s?.[2]] : s)) as [
    number[],
    number[],
    number[],
  ];
  const [batch, heads, queryLength, headDim] = qs as [number, number, number, number];
  const [, kvHeads, keyLength] = ks as [number, number, number, number];
  const valueDim = vs[3] as number;
  const layout = isPacked ? "rows" : "bhtd";
  return { batch, heads, queryLength, headDim, kvHeads, keyLength, valueDim, layout, isPacked };
}

/** `[N, H, D]` as `[N, H·D]`; what is no tensor is refused where the call is checked. */
function asRows(x: OpInput): OpInput {
  const [rows = 0, heads = 1, dim = 1] = x?.shape ?? [];
  return reshaped(x, [rows, heads * dim]);
}

/** `[N, H·D]` with as many heads as `like` `[N, H, D]`, as `[N, H, D]`. */
function unpacked(x: OpInput, like: OpInput): OpInput {
  const [rows = 0, columns = 0] = x.shape;
  const heads = like.shape[1] ?? 1;
  return reshaped(x, [rows, heads, columns / heads]);
}

function reshaped(x: OpInput, shape: readonly number[]): OpInput {
  if (x instanceof Tensor) return x.reshape(shape);
  return x?.data && x.shape ? { shape, data: x.data } : x;
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
