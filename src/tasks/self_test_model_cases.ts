import { blockBytes, blockElements, type PackedFormat } from "../core/dtype.ts";
import { accumulate } from "../ops/accumulate.ts";
import { activation as activationOp } from "../ops/activation.ts";
import { add } from "../ops/add.ts";
import { concatColumns } from "../ops/concat_columns.ts";
import { conv1d as conv1dOp } from "../ops/conv1d.ts";
import { embedding } from "../ops/embedding.ts";
import { everyNthRow } from "../ops/every_nth_row.ts";
import { gatedActivation as gatedOp } from "../ops/gated_activation.ts";
import { layerNorm as layerNormOp } from "../ops/layer_norm.ts";
import { castF16 } from "../ops/cast.ts";
import { linear as linearOp } from "../ops/linear.ts";
import { POOLINGS, type Pooling, poolRows as poolRowsOp } from "../ops/pool_rows.ts";
import { rmsNorm as rmsNormOp } from "../ops/rms_norm.ts";
import { packSeen } from "../ops/sample.ts";
import { softcap } from "../ops/softcap.ts";
import { banTokens, NO_TOKEN, topTokens } from "../ops/token_choice.ts";
import { wholeNorm } from "../ops/whole_norm.ts";
import type { HostArray } from "../program/host_array.ts";
import { activation } from "../reference/activation.ts";
import { conv1d, conv1dBackward } from "../reference/conv1d.ts";
import { dequantise } from "../reference/dequantise.ts";
import { gatedActivation } from "../reference/gated_activation.ts";
import { groupNorm } from "../reference/group_norm.ts";
import { layerNorm } from "../reference/layer_norm.ts";
import { linear, linearBackward } from "../reference/matmul.ts";
import { poolRows, poolRowsBackward } from "../reference/pool_rows.ts";
import { rmsNorm } from "../reference/rms_norm.ts";
import { at, f32, type Numbers, numbers, type SelfTestCase, u32, withGradients } from "./self_test_numbers.ts";

/** What encoders, speech, beams, accumulated gradients, mixed precision, packed weights and fused layers run beside the ops of the other cases. */
export function modelCases(): SelfTestCase[] {
  return [
    softcapCase(),
    ...POOLINGS.map(poolCase),
    everyNthRowCase(),
    conv1dCase(),
    wholeNormCase(),
    banTokensCase(),
    ...[false, true].map(topTokensCase),
    ...[0, 1].map(accumulateCase),
    halvesCase(),
    ...PACKED_FORMATS.flatMap((format) => [gatherCase(format), ...[1, 13].map((rows) => packedCase(format, rows))]),
    ...[1, 13].flatMap((rows) => [gatedLayerCase(rows), activatedLayerCase(rows)]),
  ];
}

function softcapCase(): SelfTestCase {
  const [x, dout] = [numbers(90, 5, 9), numbers(91, 5, 9)];
  const cap = 0.5;
  const capped = (value: number) => cap * Math.tanh(value / cap);
  return {
    name: "soft cap",
    inputs: { x: f32(x), dout: f32(dout) },
    record: (rec, v) => withGradients(rec, v, ["x"], () => softcap(rec, at(v, "x"), cap)),
    expected: () => ({
      out: x.values.map(capped),
      dx: x.values.map((value, i) => (dout.values[i] as number) * (1 - (capped(value) / cap) ** 2)),
    }),
  };
}

function poolCase(mode: Pooling): SelfTestCase {
  const [lengths, T, C] = [[3, 5, 1], 5, 7];
  const [x, dout] = [numbers(92, 3 * T, C), numbers(93, 3, C)];
  const sizes = { B: 3, T, C, mode };
  return {
    name: `pooled rows, ${mode}`,
    inputs: { x: f32(x), lengths: u32(...lengths), dout: f32(dout) },
    record: (rec, v) =>
      withGradients(rec, v, ["x"], () => poolRowsOp(rec, { x: at(v, "x"), lengths: at(v, "lengths") }, mode)),
    expected: () => ({
      out: poolRows(x.values, lengths, sizes),
      dx: poolRowsBackward(x.values, lengths, dout.values, sizes),
    }),
  };
}

function everyNthRowCase(): SelfTestCase {
  const [rows, every, C] = [6, 3, 5];
  const [x, dout] = [numbers(94, rows, C), numbers(95, rows / every, C)];
  const first = (n: number) => n * every * C;
  return {
    name: "every third row",
    inputs: { x: f32(x), dout: f32(dout) },
    // A view has no memory of its own to read.
    record: (rec, v) => withGradients(rec, v, ["x"], () => concatColumns(rec, [everyNthRow(rec, at(v, "x"), every)])),
    expected() {
      const dx = new Float64Array(rows * C);
      for (const n of [0, 1]) dx.set(dout.values.subarray(n * C, (n + 1) * C), first(n));
      return { out: [0, 1].flatMap((n) => [...x.values.subarray(first(n), first(n) + C)]), dx };
    },
  };
}

function conv1dCase(): SelfTestCase {
  const sizes = { B: 2, S: 7, Cin: 3, M: 4, kernel: 3, stride: 2, padding: 1 };
  const { B, S, Cin, M, kernel, stride, padding } = sizes;
  const [x, weight, bias] = [numbers(96, B * S, Cin), numbers(97, M, Cin * kernel), numbers(98, M)];
  const dout = numbers(99, B * 4, M);
  return {
    name: "convolution",
    inputs: { x: f32(x), weight: f32(weight), bias: f32(bias), dout: f32(dout) },
    record: (rec, v) =>
      withGradients(rec, v, ["x", "weight"], () =>
        conv1dOp(
          rec,
          at(v, "x"),
          { weight: at(v, "weight"), bias: at(v, "bias") },
          { batch: B, kernel, stride, padding },
        ),
      ),
    expected: () => ({
      out: conv1d(x.values, weight.values, bias.values, sizes),
      ...conv1dBackward(x.values, weight.values, dout.values, sizes),
    }),
  };
}

function wholeNormCase(): SelfTestCase {
  const [T, C] = [9, 6];
  const [x, weight, bias] = [numbers(100, T, C), numbers(101, C), numbers(102, C)];
  return {
    name: "norm over all rows",
    inputs: { x: f32(x), weight: f32(weight), bias: f32(bias) },
    record: (rec, v) => ({
      out: wholeNorm(rec, at(v, "x"), { weight: at(v, "weight"), bias: at(v, "bias") }, { eps: 1e-5 }),
    }),
    expected: () => {
      const sizes = { N: 1, C, inner: T, groups: 1, eps: 1e-5 };
      const out = groupNorm(turned(x.values, T, C), weight.values, { ...sizes, bias: bias.values });
      return { out: turned(out, C, T) };
    },
  };
}

/** `[rows, columns]` with rows and columns exchanged. */
function turned(x: Float64Array, rows: number, columns: number): Float64Array {
  return Float64Array.from(x, (_, i) => x[(i % rows) * columns + Math.floor(i / rows)] as number);
}

function banTokensCase(): SelfTestCase {
  const V = 40;
  const logits = numbers(103, 2, V);
  const banned = [...packSeen([0, 39], V), ...packSeen([32], V)];
  return {
    name: "banned tokens",
    inputs: { logits: f32(logits), banned: { shape: [2, banned.length / 2], data: Uint32Array.from(banned) } },
    record: (rec, v) => ({ out: banTokens(rec, { logits: at(v, "logits"), banned: at(v, "banned") }) }),
    expected: () => ({
      out: logits.values.map((x, i) => ([0, 39, V + 32].includes(i) ? Number.NEGATIVE_INFINITY : x)),
    }),
  };
}

/** `ruled`: with a banned token and one that was seen, the rest brought to a sum of one; else with a token that was chosen. */
function topTokensCase(ruled: boolean): SelfTestCase {
  const [V, top, penalty] = [50, 4, 3];
  // No two are equal.
  const logits = numbers(104, 1, V).values.map((x, i) => 4 * x + i / 1024);
  const order = Array.from(logits.keys()).sort((a, b) => (logits[b] as number) - (logits[a] as number));
  const [banned, seen, chosen] = [order[0] as number, order[1] as number, order[20] as number];
  const [factor = 0] = new Uint32Array(Float32Array.of(penalty).buffer);
  const rules = [factor, 1, NO_TOKEN, ...packSeen([banned], V), ...packSeen([seen], V)];
  return {
    name: `likeliest tokens${ruled ? " by rules" : ""}`,
    inputs: {
      logits: { shape: [1, V], data: Float32Array.from(logits) },
      ...(ruled ? { rules: { shape: [1, rules.length], data: Uint32Array.from(rules) } } : { chosen: u32(chosen) }),
    },
    record: (rec, v) => ({
      best: topTokens(
        rec,
        { logits: at(v, "logits"), ...(ruled ? { rules: at(v, "rules") } : { chosen: at(v, "chosen") }) },
        { top },
      ),
    }),
    // The chosen token where there is one, then the others; each with the bits of its score.
    read: (words) => scoredTokens(words).slice(ruled ? 2 : 0),
    expected() {
      const lse = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0));
      const score = (token: number) => ((logits[token] as number) - lse) * (ruled && token === seen ? penalty : 1);
      const ranked = order.filter((token) => !ruled || token !== banned).sort((a, b) => score(b) - score(a));
      const listed = [...(ruled ? [] : [chosen]), ...ranked.slice(0, top)];
      const left = ruled ? Math.log(ranked.reduce((sum, token) => sum + Math.exp(score(token)), 0)) : 0;
      return { best: listed.flatMap((token) => [token, score(token) - left]) };
    },
  };
}

/** Pairs of a token and the bits of its score as numbers. */
function scoredTokens(words: HostArray): number[] {
  const bits = Uint32Array.from(words);
  const scores = new Float32Array(bits.buffer);
  return Array.from(bits, (word, i) => (i % 2 === 0 ? word : (scores[i] as number)));
}

function accumulateCase(fresh: number): SelfTestCase {
  const [sum, addend] = [numbers(105, 5, 13), numbers(106, 5, 13)];
  return {
    name: fresh === 1 ? "a new sum of gradients" : "a sum of gradients",
    inputs: { sum: { ...f32(sum), kind: "state" }, addend: f32(addend), fresh: u32(fresh) },
    record(rec, v) {
      accumulate(rec, { sum: at(v, "sum"), addend: at(v, "addend"), fresh: at(v, "fresh") });
      return { sum: at(v, "sum") };
    },
    expected: () => ({ sum: addend.values.map((x, i) => x + (fresh === 1 ? 0 : (sum.values[i] as number))) }),
  };
}

/** The formats that weights are read in as they are stored, and where their blocks have f16 numbers. */
const HALVES: Readonly<Record<PackedFormat, readonly number[]>> = {
  ...{ bf16: [], q8_0: [0], q4_0: [0], q4_k: [0, 2], q5_k: [0, 2], q6_k: [208] },
};
const PACKED_FORMATS = Object.keys(HALVES) as PackedFormat[];
/** 2⁻¹⁰: rows of 256 weights then add up to about 1. */
const BLOCK_SCALE = 0x1400;
const PACKED = { rows: 20, columns: 256 } as const;

/** Rows of a packed weight from a fixed sequence of bytes: as they are stored, and as numbers. */
function packedRows(format: PackedFormat) {
  const { rows, columns } = PACKED;
  const bytes = blockBytes(format);
  const count = ((rows * columns) / blockElements(format)) * bytes;
  const blocks = Uint8Array.from(numbers(107, count).values, (x) => Math.floor((x + 1) * 127.5));
  // The upper byte of a bf16 has its exponent: about 1/16.
  if (format === "bf16") for (let i = 1; i < count; i += 2) blocks[i] = ((blocks[i] as number) & 0x80) | 0x3d;
  for (let block = 0; block < count; block += bytes) {
    for (const place of HALVES[format]) blocks.set([BLOCK_SCALE & 0xff, BLOCK_SCALE >> 8], block + place);
  }
  const tensor = { shape: [rows, columns], data: new Uint16Array(blocks.buffer), dtype: format };
  return { tensor, values: () => Float64Array.from(dequantise(format, blocks)) };
}

function packedCase(format: PackedFormat, N: number): SelfTestCase {
  const { rows: O, columns: I } = PACKED;
  const x = numbers(108, N, I);
  const { tensor, values } = packedRows(format);
  return {
    name: `linear [${N}, ${I}] by [${O}, ${I}] ${format}`,
    inputs: { x: f32(x), weight: tensor },
    record: (rec, v) => ({ out: linearOp(rec, at(v, "x"), at(v, "weight")) }),
    expected: () => ({ out: linear(x.values, values(), { N, I, O }) }),
  };
}

function gatherCase(format: PackedFormat): SelfTestCase {
  const { columns } = PACKED;
  const { tensor, values } = packedRows(format);
  return {
    name: `embedding ${format}`,
    inputs: { ids: u32(4, 0, 19), table: tensor },
    record: (rec, v) => ({ out: embedding(rec, at(v, "ids"), at(v, "table")) }),
    expected: () => ({ out: [4, 0, 19].flatMap((id) => [...values().subarray(id * columns, (id + 1) * columns)]) }),
  };
}

/** A linear layer of mixed precision; its numbers are those that f16 holds. */
function halvesCase(): SelfTestCase {
  const [N, I, O] = [9, 20, 12];
  const [x, weight, dout] = [numbers(113, N, I), numbers(114, O, I), numbers(115, N, O)];
  return {
    name: "linear of halves",
    inputs: { x: f32(x), weight: f32(weight), dout: f32(dout) },
    record: (rec, v) =>
      withGradients(rec, v, ["x", "weight"], () =>
        linearOp(rec, castF16(rec, at(v, "x")), castF16(rec, at(v, "weight"))),
      ),
    expected() {
      const { dx, dweight } = linearBackward(x.values, weight.values, dout.values, { N, I, O });
      return { out: linear(x.values, weight.values, { N, I, O }), dx, dweight };
    },
  };
}

interface Layer {
  readonly x: Numbers;
  readonly gain: Numbers;
  readonly weight: Numbers;
}

function layerOf(N: number, I: number, O: number): Layer {
  return { x: numbers(109, N, I), gain: numbers(110, I), weight: numbers(111, O, I) };
}

/** RMS norm, linear layer and gate, as far as this device has them in one kernel. */
function gatedLayerCase(N: number): SelfTestCase {
  const [I, F] = [32, 12];
  const { x, gain, weight } = layerOf(N, I, 2 * F);
  return {
    name: `fused norm and gate of ${N} rows`,
    fuse: true,
    inputs: { x: f32(x), gain: f32(gain), weight: f32(weight) },
    record(rec, v) {
      const normed = rmsNormOp(rec, at(v, "x"), at(v, "gain"), { eps: 1e-5 });
      return { out: gatedOp(rec, linearOp(rec, normed, at(v, "weight")), "silu") };
    },
    expected() {
      const normed = rmsNorm(x.values, gain.values, { N, C: I, eps: 1e-5 }).out;
      const both = linear(normed, weight.values, { N, I, O: 2 * F });
      const half = (from: number) =>
        Float64Array.from({ length: N * F }, (_, i) => both[Math.floor(i / F) * 2 * F + from + (i % F)] as number);
      return { out: gatedActivation("silu", half(0), half(F)) };
    },
  };
}

/** Layer norm, linear layer with an activation, and one with a residual. */
function activatedLayerCase(N: number): SelfTestCase {
  const [I, O] = [32, 32];
  const { x, gain, weight } = layerOf(N, I, O);
  const bias = numbers(112, O);
  return {
    name: `fused norm, activation and residual of ${N} rows`,
    fuse: true,
    inputs: { x: f32(x), gain: f32(gain), weight: f32(weight), bias: f32(bias) },
    record(rec, v) {
      const [x, gain, weight, bias] = [at(v, "x"), at(v, "gain"), at(v, "weight"), at(v, "bias")];
      const normed = layerNormOp(rec, x, gain, bias, { eps: 1e-5 });
      const inner = activationOp(rec, linearOp(rec, normed, weight, { bias }), "gelu_tanh");
      return { out: add(rec, linearOp(rec, inner, weight), x) };
    },
    expected() {
      const normed = layerNorm(x.values, gain.values, { N, C: I, eps: 1e-5, bias: bias.values }).out;
      const inner = activation("gelu_tanh", linear(normed, weight.values, { N, I, O, bias: bias.values }));
      return { out: linear(inner, weight.values, { N, I: O, O }).map((y, i) => y + (x.values[i] as number)) };
    },
  };
}
