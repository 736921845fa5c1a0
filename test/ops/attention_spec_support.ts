import type { Device } from "../../src/gpu/device.ts";
import { attention, type AttentionOptions } from "../../src/ops/attention.ts";
import { attentionUnfused } from "../../src/ops/attention_unfused.ts";
import { only, type OpDef, type Recorder, type Value } from "../../src/ops/op.ts";
import { gradients } from "../../src/program/autodiff.ts";
import type { ProgramRecorder } from "../../src/program/record.ts";
import { runOps } from "../../src/program/run_ops.ts";
import * as reference from "../../src/reference/attention.ts";
import { isDropoutKept } from "../../src/reference/dropout.ts";
import { type Broadcast, biasBackward, ofSequence, qkScores } from "../../src/reference/qk_scores.ts";
import { relativeBiasBackward, type RelativeOptions } from "../../src/reference/relative_bias.ts";
import { assertClose } from "../support/close.ts";
import { roundToFloat16 } from "../support/float16.ts";
import type { Random } from "../support/random.ts";
import { gradientTolerance, ROW_SUM_ATOL, tolerance } from "../support/tolerances.ts";
import { fromRows, hostData, toRows } from "./attention_support.ts";

/** A whole specification: sizes, and every option as host data. */
export interface Spec {
  B: number;
  H: number;
  Hkv: number;
  T: number;
  S: number;
  D: number;
  Dv: number;
  layout: "bhtd" | "rows";
  dtype: "f32" | "f16";
  causal?: boolean;
  window?: number | { left?: number; right?: number };
  queryStart?: number | number[];
  prefix?: number | number[];
  keyLengths?: number | number[];
  scale?: number;
  softcap?: number;
  slopes?: Float64Array;
  sinks?: Float64Array;
  bias?: Broadcast;
  mask?: Broadcast & { boolean: boolean };
  relative?: RelativeOptions & { weight: Float64Array };
  selection?: "soft" | "hard";
  /** Rate of dropped weights. */
  dropout?: number;
  /** The largest product of q and k, times the scale; default as drawn. */
  largest?: number;
}

/** A specification with defaults for what is not given. */
export function spec(given: Partial<Spec>): Spec {
  const { H = 2, T = 5, D = 8 } = given;
  return { B: 1, Hkv: H, S: T, Dv: D, layout: "bhtd", dtype: "f32", ...given, H, T, D };
}

/**
 * Draws sizes and any combination of options; with `few`, only as many kinds as share a dozen fused pipelines, each of
 * which costs seconds at its first dispatch on a CPU adapter.
 */
export function drawSpec(random: Random, { few = false } = {}): Spec {
  const Hkv = random.pick([1, 2, 3]);
  const [B, H] = [random.int(1, 3), Hkv * random.pick([1, 2, 3])];
  const T = random.pick(few && H !== Hkv ? [3, 7, 17, 33] : [1, 2, 7, 17, 33]);
  const [S, D] = [random.pick([1, 8, 31, 40]), random.pick([4, 8, 20, 7])];
  const often = <V>(make: () => V): V | undefined => (random.uniform() < 0.3 ? make() : undefined);
  const bySequence = (low: number, high: number) =>
    random.pick([random.int(low, high), Array.from({ length: B }, () => random.int(low, high))]);
  const isHard = random.uniform() < 0.15;
  // Hard selection compares scores: small numbers, of which every sum is exact, give ties and no rounding.
  const numbers = (n: number) => (isHard ? Float64Array.from(random.ints(n, -2, 2)) : random.normals(n));
  const relative = (bidirectional: boolean) => {
    const buckets = random.pick([8, 16]);
    return { buckets, bidirectional, maxDistance: random.pick([20, 128]), weight: random.normals(buckets * H) };
  };
  return {
    ...{ B, H, Hkv, T, S, D, Dv: random.pick([D, 12, 3]) },
    layout: random.pick(["bhtd", "rows"]),
    dtype: !few && random.uniform() < 0.2 ? "f16" : "f32",
    causal: random.pick([true, false]),
    window: often(() =>
      random.pick([random.int(1, 12), { left: random.int(0, 9), right: random.int(0, 9) }, { right: 3 }]),
    ),
    queryStart: random.pick([undefined, Math.max(0, S - T), bySequence(0, 12)]),
    prefix: often(() => bySequence(0, 10)),
    keyLengths: few
      ? Array.from({ length: B }, () => random.pick([S, random.int(0, S)]))
      : often(() => bySequence(0, S)),
    scale: isHard ? 0.5 : random.pick([undefined, 0.3]),
    softcap: isHard ? undefined : often(() => 2),
    slopes: often(() => Float64Array.from({ length: H }, (_, h) => 2 ** -h)),
    sinks: often(() => random.normals(H)),
    bias: often(() => drawBroadcast(random, { B, H, T, S }, numbers)),
    mask: often(() => drawMask(random, { B, H, T, S }, numbers)),
    relative: isHard ? undefined : often(() => relative(random.pick([true, false]))),
    selection: isHard ? "hard" : random.pick([undefined, "soft"]),
    dropout: random.uniform() < 0.15 ? 0.3 : undefined,
    largest: !isHard && random.uniform() < 0.2 ? LOUD : undefined,
  };
}

/** Size of large logits. */
const LOUD = 1e4;

type Sizes = Pick<Spec, "B" | "H" | "T" | "S">;

function drawBroadcast(random: Random, { B, H, T, S }: Sizes, numbers: (n: number) => Float64Array): Broadcast {
  const shape = [random.pick([1, B]), random.pick([1, H]), random.pick([1, T]), random.pick([1, S])] as const;
  const data = numbers(shape.reduce((a, b) => a * b));
  const masks = random.uniform() < 0.5;
  return {
    shape,
    data: masks ? data.map((x) => (random.uniform() < 0.1 ? random.pick([-Infinity, -1e30, -3e38]) : x)) : data,
  };
}

function drawMask(
  random: Random,
  sizes: Sizes,
  numbers: (n: number) => Float64Array,
): Broadcast & { boolean: boolean } {
  const boolean = random.pick([true, false]);
  const { shape, data } = drawBroadcast(random, sizes, numbers);
  return { shape, boolean, data: boolean ? Float64Array.from(data, () => random.pick([0, 1, 1])) : data };
}

/** q, k, v and the gradient of out of a specification, in `[B, H, T, D]` order. */
export function drawTensors(random: Random, s: Spec) {
  const round = s.dtype === "f16" ? roundToFloat16 : (x: Float64Array) => x;
  const isHard = s.selection === "hard";
  const draw = (n: number) => (isHard ? Float64Array.from(random.ints(n, -2, 2)) : random.normals(n));
  const [q, k] = [draw(s.B * s.H * s.T * s.D), draw(s.B * s.Hkv * s.S * s.D)];
  const factor = s.largest === undefined ? 1 : Math.sqrt(s.largest / largestProduct(s, q, k));
  return {
    q: round(q.map((x) => x * factor)),
    k: round(k.map((x) => x * factor)),
    v: round(random.normals(s.B * s.Hkv * s.S * s.Dv)),
    dout: random.normals(s.B * s.H * s.T * s.Dv),
  };
}

function largestProduct(s: Spec, q: Float64Array, k: Float64Array): number {
  return maxOf(qkScores(q, k, s, { scale: s.scale }));
}

/** The largest magnitude. */
function maxOf(x: Float64Array): number {
  return x.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

type Tensors = ReturnType<typeof drawTensors>;

/** A loss whose gradient is a given tensor: Σ out · dout. Nothing reads its value, so it never runs. */
const SEED: OpDef<null> = {
  name: "seed",
  infer: () => [{ shape: [1], dtype: "f32" }],
  lower() {
    throw new Error("the seed's value was asked for");
  },
  backward: (_, { inputs }) => ({ out: inputs["dout"] as Value }),
};

/** The scalar whose gradient with respect to `out` is `dout`. */
export function seedLoss(rec: Recorder, out: Value, dout: Value): Value {
  return only(rec.record(SEED, { out, dout }, null));
}

/** The tensors of a specification as a Program takes them. */
function hostTensors(s: Spec, { q, k, v, dout }: Tensors) {
  const heads = (x: Float64Array, count: number, length: number, dim: number, dtype = s.dtype) =>
    s.layout === "rows"
      ? { shape: [s.B * length, count * dim], data: hostData(toRows(x, s.B, count, length, dim), dtype) }
      : { shape: [s.B, count, length, dim], data: hostData(x, dtype) };
  const words = (x: number | number[] | undefined) =>
    typeof x === "object" ? { shape: [s.B], data: Uint32Array.from(x) } : undefined;
  const floats = (x: Float64Array | undefined, shape: readonly number[] = [s.H]) =>
    x && { shape, data: Float32Array.from(x) };
  const { bias, mask, relative } = s;
  const all = {
    q: heads(q, s.H, s.T, s.D),
    k: heads(k, s.Hkv, s.S, s.D),
    v: heads(v, s.Hkv, s.S, s.Dv),
    dout: heads(dout, s.H, s.T, s.Dv, "f32"),
    queryStart: words(s.queryStart),
    prefix: words(s.prefix),
    keyLengths: words(s.keyLengths),
    slopes: floats(s.slopes),
    sinks: floats(s.sinks),
    bias: bias && { shape: bias.shape, data: Float32Array.from(bias.data) },
    mask: mask && {
      shape: mask.shape,
      data: mask.boolean ? Uint32Array.from(mask.data) : Float32Array.from(mask.data),
    },
    relative: relative && floats(relative.weight, [relative.buckets, s.H]),
    rng: s.dropout === undefined ? undefined : { shape: [3], data: Uint32Array.of(7, 9, 3) },
  };
  return Object.fromEntries(Object.entries(all).flatMap(([name, x]) => (x ? [[name, x]] : []))) as {
    [K in keyof typeof all]-?: NonNullable<(typeof all)[K]>;
  };
}

/** The op's options for a specification whose tensors are `values`. */
function optionsOf(s: Spec, values: Record<string, Value | undefined>): AttentionOptions {
  const { relative, rng } = values;
  const bySequence = (name: "queryStart" | "prefix" | "keyLengths") => {
    const given = s[name];
    return typeof given === "number" ? given : values[name];
  };
  return {
    ...{ batch: s.B, heads: s.H, kvHeads: s.Hkv, queryLength: s.T, keyLength: s.S, headDim: s.D, valueDim: s.Dv },
    ...{ layout: s.layout, causal: s.causal, window: s.window, scale: s.scale, softcap: s.softcap },
    ...{ queryStart: bySequence("queryStart"), prefix: bySequence("prefix"), keyLengths: bySequence("keyLengths") },
    ...{ alibiSlopes: values["slopes"], sinks: values["sinks"], bias: values["bias"], mask: values["mask"] },
    relativeBias: relative && {
      weight: relative,
      bidirectional: s.relative?.bidirectional,
      maxDistance: s.relative?.maxDistance,
    },
    selection: s.selection,
    dropout: rng && { rate: s.dropout ?? 0, rng },
  } as AttentionOptions;
}

/** The reference's options; dropout's factors follow from the place of its op in the record. */
function referenceOptions(s: Spec, dropoutIndex: number): reference.AttentionOptions {
  const { causal, window, queryStart, prefix, keyLengths, scale, softcap, slopes, sinks, selection, relative } = s;
  const rate = s.dropout ?? 0;
  const kept = { p: rate, seed: [7, 9] as const, step: 3, opId: dropoutIndex };
  const factors = Float64Array.from({ length: s.B * s.H * s.T * s.S }, (_, i) =>
    rate > 0 && !isDropoutKept(i, kept) ? 0 : 1 / (1 - rate),
  );
  return {
    ...{
      causal,
      window,
      queryStart,
      prefix,
      keyLengths,
      scale,
      softcap,
      alibiSlopes: slopes,
      sinks,
      selection,
      relative,
    },
    bias: sumOf(s),
    keep: s.mask?.boolean ? s.mask : undefined,
    dropout: factors,
  };
}

/** bias plus an additive mask, over `[B, H, T, S]`. */
function sumOf(s: Spec): Broadcast {
  const addends = [s.bias, s.mask?.boolean ? undefined : s.mask].filter((x) => x !== undefined);
  const data = new Float64Array(s.B * s.H * s.T * s.S).map((_, at) => {
    const [j, i, h, b] = [
      at % s.S,
      Math.floor(at / s.S) % s.T,
      Math.floor(at / s.S / s.T) % s.H,
      Math.floor(at / s.S / s.T / s.H),
    ];
    return addends.reduce((sum, { data: x, shape: [B, H, T, S] }) => {
      return sum + x[(((b % B) * H + (h % H)) * T + (i % T)) * S + (j % S)]!;
    }, 0);
  });
  return { data, shape: [s.B, s.H, s.T, s.S] };
}

/** Which path an attention call takes: the choice of the op, the three kernels, or one fused kernel. */
export type Path = "attention" | "unfused" | "tiled" | "lanes";

interface Outputs {
  readonly out: Value;
  readonly lse?: Value;
  readonly probs?: Value;
}

function run(rec: Recorder, path: Path, v: Record<"q" | "k" | "v", Value>, options: AttentionOptions): Outputs {
  if (path === "unfused") return attentionUnfused(rec, v, options);
  const kernel = path === "attention" ? undefined : path;
  return attention(rec, v, { ...options, keep: "lse", kernel });
}

const TRAINED = ["q", "k", "v", "bias", "sinks", "relative"];

/**
 * Runs a specification forward, and backward if asked to, and compares all that comes out with the reference. `frozen`:
 * no gradient of bias and relative bias is asked for.
 */
export async function checkSpec(
  device: Device,
  random: Random,
  s: Spec,
  { path, backward, frozen = false }: { path: Path; backward: boolean; frozen?: boolean },
): Promise<void> {
  const data = drawTensors(random, s);
  let dropoutIndex = 0;
  const result = await runOps(device, hostTensors(s, data), (rec: ProgramRecorder, values): Record<string, Value> => {
    const { out, lse, probs } = run(rec, path, values, optionsOf(s, values));
    dropoutIndex = rec.nodes.find((node) => node.op.name === "dropout")?.index ?? 0;
    const outputs = { out, lse: lse as Value, ...(probs && { probs }) };
    if (!backward) return outputs;
    const wrt = Object.entries(pickTensors(values, frozen ? ["q", "k", "v", "sinks"] : TRAINED));
    const grads = gradients(
      rec,
      seedLoss(rec, out, values.dout),
      wrt.map(([, value]) => value),
    );
    return { ...outputs, ...Object.fromEntries(wrt.map(([name], i) => [`d${name}`, grads[i] as Value])) };
  });
  const options = referenceOptions(s, dropoutIndex);
  const context = `${formatSpec(s)}, path ${path}, seed ${random.seed}, tier ${device.facts.tier}`;
  const check = (name: string, want: Float64Array, close: { atol: number; rtol: number }, heads?: number[]) => {
    const got = result[name] as Float32Array;
    const [count, length, dim] = heads ?? [];
    const ordered =
      count !== undefined && s.layout === "rows" ? fromRows(got, s.B, count, length as number, dim as number) : got;
    assertClose(ordered, want, { ...close, label: name, context });
  };
  const want = reference.attention(data.q, data.k, data.v, s, options);
  const slack = slackOf(s, data);
  const { atol, rtol } = tolerance("f32", "attention");
  check("out", want.out, { atol: Math.max(atol, slack.out), rtol }, [s.H, s.T, s.Dv]);
  check("lse", want.lse, { atol: Math.max(1e-4, slack.score), rtol: 1e-5 });
  if (result["probs"]) {
    const sinkSlack = s.sinks ? slack.score : 0;
    checkWeights(result["probs"] as Float32Array, want.probs, { s, sinkSlack, context });
  }
  if (!backward) return;
  const grads = reference.attentionBackward(data.q, data.k, data.v, data.dout, s, options);
  const near = (x: Float64Array, least: number) => {
    const { atol, rtol } = gradientTolerance(x);
    // Where all of a gradient cancels the terms' rounding is left.
    return { atol: Math.max(atol, 2e-5, least), rtol };
  };
  check("dq", grads.dq, near(grads.dq, slack.dq), [s.H, s.T, s.D]);
  check("dk", grads.dk, near(grads.dk, slack.dk), [s.Hkv, s.S, s.D]);
  check("dv", grads.dv, near(grads.dv, slack.dv), [s.Hkv, s.S, s.Dv]);
  if (s.sinks) check("dsinks", grads.dsinks, near(grads.dsinks, slack.dscores * s.B * s.T));
  if (s.bias && !frozen) {
    const dbias = biasBackward(grads.dscores, s, s.bias.shape);
    check("dbias", dbias, near(dbias, slack.dscores * s.B * s.H * s.T));
  }
  if (s.relative && !frozen) {
    const starts = (b: number) => ofSequence(s.queryStart ?? 0, b);
    const drelative = relativeBiasBackward(grads.dscores, s, s.relative, starts);
    check("drelative", drelative, near(drelative, slack.dscores * s.B * s.T));
  }
}

/**
 * What large logits add to the tolerances. A score of size m, summed over D products in f32 and kept times log2 e, errs by
 * δ = 2 (√D + 1) · 2⁻²⁴ · m, which is a relative error of its weight; out errs by δ for the numerator and δ for the denominator,
 * times the largest value. `dscores = p (dp − Σ p dp)` err by 2δ of their own p and 2δ in the sum, times the largest dp; a row's
 * weights add up to 1, so that dq errs by that times the largest key, dk and dv by what all rows of a key's heads add.
 */
function slackOf(s: Spec, { q, k, v, dout }: Tensors) {
  if (s.largest === undefined) return { score: 0, out: 0, dscores: 0, dq: 0, dk: 0, dv: 0 };
  const { scale = 1 / Math.sqrt(s.D), dropout = 0 } = s;
  const score = 2 * (Math.sqrt(s.D) + 1) * 2 ** -24 * s.largest;
  const kept = 1 / (1 - dropout);
  const dscores = 4 * score * kept * s.Dv * maxOf(dout) * maxOf(v);
  const rows = s.T * (s.H / s.Hkv);
  return {
    ...{ score, dscores, out: 2 * score * kept * maxOf(v) },
    dq: scale * dscores * maxOf(k),
    dk: scale * dscores * maxOf(q) * rows,
    dv: 2 * score * kept * maxOf(dout) * rows,
  };
}

/** What holds of weights before dropout, whatever is drawn: exactly 0 where masked; rows of the soft ones sum to what sinks leave. */
function checkWeights(
  probs: Float32Array,
  want: Float64Array,
  { s, sinkSlack, context }: { s: Spec; sinkSlack: number; context: string },
): void {
  want.forEach((p, at) => {
    // Of what is not masked, a weight may be too small for f32.
    if (p === 0 && probs[at] !== 0) throw new Error(`probs[${at}] is masked and ${probs[at]}; ${context}`);
  });
  for (let row = 0; row < want.length; row += s.S) {
    const sum = (x: ArrayLike<number>) => Array.from({ length: s.S }, (_, j) => x[row + j]!).reduce((a, b) => a + b, 0);
    const [got, whole] = [sum(probs), sum(want)];
    const isRight = s.selection === "hard" ? got === 0 || got === 1 : Math.abs(got - whole) <= ROW_SUM_ATOL + sinkSlack;
    if (!isRight) throw new Error(`the weights of row ${row / s.S} sum to ${got}, not to ${whole}; ${context}`);
  }
}

function pickTensors(values: Record<string, Value | undefined>, names: readonly string[]): Record<string, Value> {
  return Object.fromEntries(names.flatMap((name) => (values[name] ? [[name, values[name]]] : [])));
}

function formatSpec(s: Spec): string {
  return Object.entries(s)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => {
      if (value instanceof Float64Array) return `${name} [${value.length}]`;
      if (typeof value === "object" && "shape" in value)
        return `${name} [${value.shape}] ${JSON.stringify("boolean" in value && value.boolean)}`;
      return `${name} ${typeof value === "object" ? JSON.stringify({ ...value, weight: undefined }) : value}`;
    })
    .join(", ");
}
