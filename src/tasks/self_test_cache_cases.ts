import { attentionDecodePaged, attentionPaged } from "../ops/attention.ts";
import { headWeights, headWeightsPaged } from "../ops/head_weights.ts";
import { kvAppend, PAGE_TOKENS } from "../ops/kv_append.ts";
import { packSampling, packSeen, ringLength, SAMPLING_WORDS, sampleToken, seenWords } from "../ops/sample.ts";
import { ropeTable } from "../ops/rope.ts";
import { ropeAppend } from "../ops/rope_append.ts";
import type { HostTensor } from "../program/run_ops.ts";
import { attention } from "../reference/attention.ts";
import { rope, ropeInverseFrequencies } from "../reference/rope.ts";
import { argmax } from "../reference/sample.ts";
import { weightSummary as summaryOf } from "../reference/weight_summary.ts";
import { weightSummary } from "../ops/weight_summary.ts";
import { at, f16, f32, type Numbers, numbers, type SelfTestCase, u32 } from "./self_test_numbers.ts";

const NO_SLOT = 0xffffffff;
const [H, HKV, D] = [4, 2, 16];
const ONE_AS_F16 = 0x3c00;

/** What generation runs beside the ops of a forward pass: the cache, attention over it, its weights, and sampling. */
export function cacheCases(): SelfTestCase[] {
  return [
    ...[false, true].flatMap((half) => [appendCase(half), ropeAppendCase(half)]),
    appendBlockCase(),
    ...(["f32", "f16"] as const).flatMap((dtype) => [prefillCase(dtype), decodeCase(dtype, 2), decodeCase(dtype, 64)]),
    weightsCase(),
    weightsPagedCase(),
    ...(["greedy", "sample"] as const).map(sampleCase),
  ];
}

function state(tensor: HostTensor): HostTensor {
  return { ...tensor, kind: "state" };
}

function matrix(rows: number, columns: number, values: readonly number[]): HostTensor {
  return { shape: [rows, columns], data: Uint32Array.from(values) };
}

/** A pool `[pages, 2, Hkv, 32, D]` with k and v `[tokens, Hkv, D]` at positions of pages in the order given. */
function poolOf(k: Numbers, v: Numbers, positions: readonly number[], pages: readonly number[]): Numbers {
  const count = Math.max(...pages) + 1;
  const shape = [count, 2, HKV, PAGE_TOKENS, D];
  const values = new Float64Array(count * 2 * HKV * PAGE_TOKENS * D);
  positions.forEach((position, n) => {
    const page = pages[Math.floor(position / PAGE_TOKENS)] as number;
    [k, v].forEach((x, which) => {
      for (let h = 0; h < HKV; h++) {
        const to = (((page * 2 + which) * HKV + h) * PAGE_TOKENS + (position % PAGE_TOKENS)) * D;
        values.set(x.values.subarray((n * HKV + h) * D, (n * HKV + h + 1) * D), to);
      }
    });
  });
  return { shape, values };
}

/** What comes back of a pool: numbers, or the bits of f16. */
function stored(pool: Numbers, half: boolean): ArrayLike<number> {
  return half ? f16(pool).data : pool.values;
}

const APPENDED = [0, 31, 32];
const TABLES = {
  rowTable: matrix(4, 2, [...APPENDED.flatMap((position) => [0, position]), NO_SLOT, 0]),
  pageTable: matrix(1, 2, [1, 0]),
};

function appendCase(half: boolean): SelfTestCase {
  const [k, v] = [numbers(41, 4, HKV * D), numbers(42, 4, HKV * D)];
  const empty = { shape: [2, 2, HKV, PAGE_TOKENS, D], values: new Float64Array(4 * HKV * PAGE_TOKENS * D) };
  return {
    name: `append to the cache${half ? " f16" : ""}`,
    inputs: { k: f32(k), v: f32(v), kv: state(half ? f16(empty) : f32(empty)), ...TABLES },
    record(rec, values) {
      const { k, v, kv, rowTable, pageTable } = values as Record<"k" | "v" | "kv" | "rowTable" | "pageTable", never>;
      kvAppend(rec, { k, v, kv, rowTable, pageTable }, { kvHeads: HKV, headDim: D });
      return { kv };
    },
    expected: () => ({ kv: stored(poolOf(k, v, APPENDED, [1, 0]), half) }),
  };
}

/** Bytes that are the numbers themselves: their largest is 127, so that the scale is 1. */
function appendBlockCase(): SelfTestCase {
  const x = Float32Array.from({ length: 32 }, (_, i) => 127 - 8 * i);
  const words = new Uint32Array(2 * PAGE_TOKENS * 9);
  const block = [ONE_AS_F16, ...new Uint32Array(Int8Array.from(x).buffer)];
  for (const which of [0, 1]) words.set(block, (which * PAGE_TOKENS + 3) * 9);
  return {
    name: "append to the cache q8_0",
    inputs: {
      ...{ k: { shape: [1, 32], data: x }, v: { shape: [1, 32], data: x } },
      kv: state({ shape: [1, 2, 1, PAGE_TOKENS, 9], data: new Uint32Array(words.length) }),
      ...{ rowTable: matrix(1, 2, [0, 3]), pageTable: matrix(1, 1, [0]) },
    },
    record(rec, values) {
      const { k, v, kv, rowTable, pageTable } = values as Record<"k" | "v" | "kv" | "rowTable" | "pageTable", never>;
      kvAppend(rec, { k, v, kv, rowTable, pageTable }, { kvHeads: 1, headDim: 32 });
      return { kv };
    },
    expected: () => ({ kv: words }),
  };
}

function ropeAppendCase(half: boolean): SelfTestCase {
  const [q, k, v] = [numbers(43, 4, H * D), numbers(44, 4, HKV * D), numbers(45, 4, HKV * D)];
  const inverseFrequencies = ropeInverseFrequencies(10_000, D);
  const empty = { shape: [2, 2, HKV, PAGE_TOKENS, D], values: new Float64Array(4 * HKV * PAGE_TOKENS * D) };
  const dims = { N: 4, D, form: "half" as const, positions: [...APPENDED, 0], inverseFrequencies };
  const table = { shape: [40, D / 2, 2], data: ropeTable({ maxPositions: 40, inverseFrequencies }) };
  return {
    name: `rotate and append${half ? " f16" : ""}`,
    inputs: { q: f32(q), k: f32(k), v: f32(v), kv: state(half ? f16(empty) : f32(empty)), table, ...TABLES },
    record(rec, values) {
      const options = { heads: H, kvHeads: HKV, headDim: D, rotaryDim: D, interleaved: false };
      return {
        q: ropeAppend(rec, values as unknown as Parameters<typeof ropeAppend>[1], options),
        kv: at(values, "kv"),
      };
    },
    expected() {
      const turned = rope(q.values, { ...dims, H });
      turned.fill(0, 3 * H * D);
      const keys = { shape: k.shape, values: rope(k.values, { ...dims, H: HKV }) };
      return { q: turned, kv: stored(poolOf(keys, v, APPENDED, [1, 0]), half) };
    },
  };
}

/** `[T, H, D]` as `[H, T, D]`, or back. */
function turned({ values }: Numbers, length: number, heads: number): Float64Array {
  const out = new Float64Array(values.length);
  for (let t = 0; t < length; t++) {
    for (let h = 0; h < heads; h++)
      out.set(values.subarray((t * heads + h) * D, (t * heads + h + 1) * D), (h * length + t) * D);
  }
  return out;
}

function attended(q: Numbers, k: Numbers, v: Numbers, queryStart: number) {
  const [T, S] = [q.shape[0] as number, k.shape[0] as number];
  const dims = { B: 1, H, Hkv: HKV, T, S, D, Dv: D };
  return attention(turned(q, T, H), turned(k, S, HKV), turned(v, S, HKV), dims, { causal: true, queryStart });
}

/** A cache of `length` tokens, its pages in falling order. */
function cacheOf(length: number, seed: number, maxPages: number) {
  const [k, v] = [numbers(seed, length, HKV * D), numbers(seed + 1, length, HKV * D)];
  const count = Math.ceil(length / PAGE_TOKENS);
  const pages = Array.from({ length: count }, (_, i) => count - 1 - i);
  const table = matrix(
    1,
    maxPages,
    Array.from({ length: maxPages }, (_, i) => pages[i] ?? 0),
  );
  const positions = Array.from({ length }, (_, i) => i);
  return { k, v, kv: poolOf(k, v, positions, pages), pageTable: table };
}

function prefillCase(dtype: "f32" | "f16"): SelfTestCase {
  const [length, rows] = [40, 6];
  const { k, v, kv, pageTable } = cacheOf(length, 46, 2);
  const q = numbers(48, rows, H * D);
  const start = length - rows;
  return {
    name: `attention over the cache ${dtype}`,
    inputs: {
      ...{ q: f32(q), kv: dtype === "f16" ? f16(kv) : f32(kv), pageTable },
      rowTable: matrix(rows, 2, Array.from({ length: rows }, (_, i) => [0, start + i]).flat()),
      tileTable: matrix(1, 4, [0, rows, 0, start]),
    },
    record: (rec, values) => ({
      out: attentionPaged(rec, values as unknown as Parameters<typeof attentionPaged>[1], {
        ...{ heads: H, kvHeads: HKV, headDim: D, maxPages: 2 },
      }),
    }),
    expected: () => ({ out: rowsOf(attended(q, k, v, start).out, rows) }),
  };
}

/** `[H, T, D]` as `[T, H, D]`. */
function rowsOf(values: Float64Array, length: number): Float64Array {
  return Float64Array.from(values, (_, i) => {
    const [d, h, t] = [i % D, Math.floor(i / D) % H, Math.floor(i / D / H)];
    return values[(h * length + t) * D + d] as number;
  });
}

function decodeCase(dtype: "f32" | "f16", maxPages: number): SelfTestCase {
  const length = maxPages > 2 ? 600 : 40;
  const { k, v, kv, pageTable } = cacheOf(length, 49, maxPages);
  const q = numbers(51, 2, H * D);
  return {
    name: `decoding over ${length} keys of the cache ${dtype}`,
    inputs: {
      ...{ q: f32(q), kv: dtype === "f16" ? f16(kv) : f32(kv), pageTable },
      rowTable: matrix(2, 2, [0, length - 1, NO_SLOT, 0]),
    },
    record: (rec, values) => ({
      out: attentionDecodePaged(rec, values as unknown as Parameters<typeof attentionDecodePaged>[1], {
        ...{ heads: H, kvHeads: HKV, headDim: D, maxPages },
        ...(maxPages > 2 ? { maxSplits: 4 } : {}),
      }),
    }),
    expected() {
      const first = { shape: [1, H * D], values: q.values.subarray(0, H * D) };
      return { out: [...attended(first, k, v, length - 1).out, ...new Float64Array(H * D)] };
    },
  };
}

const ATTENTION = { heads: H, kvHeads: HKV, headDim: D, scale: 1 / Math.sqrt(D) };

function weightsCase(): SelfTestCase {
  const T = 9;
  const [q, k] = [numbers(52, T, H * D), numbers(53, T, HKV * D)];
  const whole = () => attended(q, k, k, 0);
  const chosen = (all: Float64Array) =>
    [1, 3].flatMap((h) => [2, 8].map((t) => all.subarray((h * T + t) * T, (h * T + t + 1) * T)));
  return {
    name: "attention weights and their summary",
    inputs: {
      ...{ q: f32(q), k: f32(k), headList: u32(1, 3), queries: u32(2, 8) },
      lse: { shape: [1, H, T], data: Float32Array.from(whole().lse) },
    },
    record(rec, values) {
      const { lse, ...rest } = values as unknown as Parameters<typeof headWeights>[1] & { lse: never };
      const saved = headWeights(rec, { ...rest, lse }, ATTENTION);
      const summed = headWeights(rec, rest, ATTENTION);
      const { stats, topKeys, topWeights } = weightSummary(rec, { weights: saved, places: rest.queries }, { top: 2 });
      return { saved, summed, stats, topKeys, topWeights };
    },
    expected() {
      const rows = chosen(whole().probs);
      const summaries = rows.map((row, i) => summaryOf(row, i % 2 === 0 ? 2 : 8, 2));
      return {
        ...{ saved: rows.flatMap((row) => [...row]), summed: rows.flatMap((row) => [...row]) },
        stats: summaries.flatMap(({ entropy, first, distance }) => [entropy, first, distance]),
        topKeys: summaries.flatMap(({ topKeys }) => topKeys),
        topWeights: summaries.flatMap(({ topKeys }, i) => topKeys.map((key) => rows[i]?.[key] as number)),
      };
    },
  };
}

function weightsPagedCase(): SelfTestCase {
  const length = 40;
  const { k, v, kv, pageTable } = cacheOf(length, 54, 2);
  const q = numbers(56, 2, H * D);
  return {
    name: "attention weights over the cache",
    inputs: {
      ...{ q: f32(q), kv: f32(kv), headList: u32(0, 3), pageTable },
      rowTable: matrix(2, 2, [0, length - 1, NO_SLOT, 0]),
    },
    record: (rec, values) => ({
      weights: headWeightsPaged(rec, values as unknown as Parameters<typeof headWeightsPaged>[1], ATTENTION),
    }),
    expected() {
      const first = { shape: [1, H * D], values: q.values.subarray(0, H * D) };
      const { probs } = attended(first, k, v, length - 1);
      const row = (h: number) => [...probs.subarray(h * length, (h + 1) * length), ...new Float64Array(64 - length)];
      return { weights: [0, 3].flatMap((h) => [...row(h), ...new Float64Array(64)]) };
    },
  };
}

/** Greedy, or drawn where filters leave one token each: what float64 and f32 agree on. */
function sampleCase(mode: "greedy" | "sample"): SelfTestCase {
  const V = 700;
  const logits = numbers(57, 3, V);
  // No two are equal: filters keep equals together.
  const shaped = logits.values.map((x, i) => 10 * x + (i % V) / 1024);
  const settings = mode === "greedy" ? [{}, {}] : [{ topK: 1 }, { topP: 1e-6, minP: 1, repetitionPenalty: 1e6 }];
  const best = [0, 1].map((n) => argmax(shaped.subarray(n * V, (n + 1) * V)));
  const seen = mode === "greedy" ? [] : [best[1] as number];
  const second = () => {
    const row = Float64Array.from(shaped.subarray(V, 2 * V));
    for (const id of seen) row[id] = (row[id] as number) / 1e6;
    return argmax(row);
  };
  const words = seenWords(V);
  return {
    name: `sampling, ${mode}`,
    inputs: {
      logits: { shape: [3, V], data: Float32Array.from(shaped) },
      rowTable: state(matrix(3, 2, [0, 4, 1, 7, NO_SLOT, 0])),
      tokens: state(u32(9, 9, 9)),
      ring: state({ shape: [ringLength(3)], data: new Uint32Array(ringLength(3)) }),
      seen: state(matrix(2, words, [...new Uint32Array(words), ...packSeen(seen, V)])),
      sampling: state(
        matrix(
          2,
          SAMPLING_WORDS,
          settings.flatMap((s) => [...packSampling({ temperature: 1, ...s })]),
        ),
      ),
    },
    record(rec, values) {
      sampleToken(rec, values as unknown as Parameters<typeof sampleToken>[1], { mode });
      return { picked: at(values, "tokens"), places: at(values, "rowTable") };
    },
    expected: () => ({ picked: [best[0] as number, second(), 9], places: [0, 5, 1, 8, NO_SLOT, 0] }),
  };
}
