import { attentionDecodePaged, attentionPaged } from "../ops/attention.ts";
import { headWeightsPaged } from "../ops/head_weights.ts";
import { KV_BLOCK, PAGE_TOKENS } from "../ops/kv_pool.ts";
import type { Value } from "../ops/op.ts";
import type { HostTensor } from "../program/run_ops.ts";
import { attention, type AttentionOptions } from "../reference/attention.ts";
import { at, f16, f32, type Numbers, numbers, type SelfTestCase, u32, type Values } from "./self_test_numbers.ts";

const [H, HKV, D] = [4, 2, 32];
const LENGTH = 40;
/** Queries: the last of the sequence. */
const ROWS = 6;
const START = LENGTH - ROWS;
const MAX_PAGES = 2;
/** 2⁻⁷ as f16: the scale of every block of q8_0. */
const SCALE_BITS = 0x2000;
const SCALE = 2 ** -7;

interface PageProblem {
  readonly name: string;
  readonly dtype?: "f32" | "f16" | "q8_0";
  /** Of the ops. */
  readonly scores?: (values: Values) => object;
  /** The same of the reference. */
  readonly options?: AttentionOptions;
  readonly inputs?: Readonly<Record<string, HostTensor>>;
  readonly prefix?: number;
}

/** Attention over the cache in each of its formats and with each change of scores: prefill, decode and the weights. */
export function pageCases(): SelfTestCase[] {
  const [slopes, table] = [numbers(120, H), numbers(121, 8, H)];
  const relative = { buckets: 8, bidirectional: false, maxDistance: 16, weight: table.values };
  const problems: PageProblem[] = [
    { name: "f16", dtype: "f16" },
    { name: "q8_0", dtype: "q8_0" },
    { name: "with a prefix", prefix: 38 },
    {
      name: "with slopes and a soft cap",
      scores: (v) => ({ alibiSlopes: at(v, "slopes"), softcap: 2 }),
      options: { alibiSlopes: slopes.values, softcap: 2 },
      inputs: { slopes: f32(slopes) },
    },
    {
      name: "with a relative bias",
      scores: (v) => ({ relativeBias: { weight: at(v, "table"), maxDistance: 16 } }),
      options: { relative },
      inputs: { table: f32(table) },
    },
  ];
  return problems.map(pageCase);
}

function pageCase({ name, dtype = "f32", scores, options, inputs, prefix }: PageProblem): SelfTestCase {
  const [q, k, v] = [numbers(122, ROWS, H * D), keysOf(123), keysOf(124)];
  const tile = [0, ROWS, 0, START];
  const sizes = { heads: H, kvHeads: HKV, headDim: D };
  return {
    name: `paged attention, ${name}`,
    inputs: {
      ...{ q: f32(q), kv: poolOf(k, v, dtype), headList: u32(0, 3), ...inputs },
      pageTable: { shape: [1, MAX_PAGES], data: Uint32Array.of(1, 0) },
      rowTable: {
        shape: [ROWS, 2],
        data: Uint32Array.from({ length: 2 * ROWS }, (_, i) => (i % 2) * (START + (i >> 1))),
      },
      tileTable: {
        shape: [1, prefix === undefined ? 4 : 8],
        data: Uint32Array.from(prefix === undefined ? tile : [...tile, prefix, 0, 0, 0]),
      },
    },
    record(rec, values): Record<string, Value> {
      const paged = values as unknown as Parameters<typeof attentionPaged>[1];
      const { tileTable: _, ...single } = paged;
      const changed = { ...sizes, ...scores?.(values) };
      const prefill = attentionPaged(rec, paged, { ...changed, maxPages: MAX_PAGES });
      if (prefix !== undefined) return { prefill };
      const heads = { ...single, headList: at(values, "headList") };
      return {
        prefill,
        decode: attentionDecodePaged(rec, single, { ...changed, maxPages: MAX_PAGES }),
        weights: headWeightsPaged(rec, heads, { ...changed, scale: 1 / Math.sqrt(D) }),
      };
    },
    expected() {
      const dims = { B: 1, H, Hkv: HKV, T: ROWS, S: LENGTH, D, Dv: D };
      const all = { ...options, causal: true, queryStart: START, prefix };
      const { out, probs } = attention(byHead(q, ROWS, H), byHead(k, LENGTH, HKV), byHead(v, LENGTH, HKV), dims, all);
      const rows = Float64Array.from(out, (_, i) => {
        const [d, h, t] = [i % D, Math.floor(i / D) % H, Math.floor(i / D / H)];
        return out[(h * ROWS + t) * D + d] as number;
      });
      const row = (h: number, t: number) => probs.subarray((h * ROWS + t) * LENGTH, (h * ROWS + t + 1) * LENGTH);
      const past = new Float64Array(MAX_PAGES * PAGE_TOKENS - LENGTH);
      const times = Array.from({ length: ROWS }, (_, t) => t);
      return {
        prefill: rows,
        decode: rows,
        weights: [0, 3].flatMap((h) => times.flatMap((t) => [...row(h, t), ...past])),
      };
    },
  };
}

/** Rows of keys or values `[tokens, Hkv·D]` that every format holds exactly. */
function keysOf(seed: number): Numbers {
  const { shape, values } = numbers(seed, LENGTH, HKV * D);
  return { shape, values: values.map((x) => Math.round(x * 127) * SCALE) };
}

/** `[T, H, D]` as `[H, T, D]`. */
function byHead({ values }: Numbers, length: number, heads: number): Float64Array {
  return Float64Array.from(values, (_, i) => {
    const [d, t, h] = [i % D, Math.floor(i / D) % length, Math.floor(i / D / length)];
    return values[(t * heads + h) * D + d] as number;
  });
}

/** The pool `[pages, 2, Hkv, 32, D]` with the first tokens on page 1, the others on page 0. */
function poolOf(k: Numbers, v: Numbers, dtype: "f32" | "f16" | "q8_0"): HostTensor {
  const shape = [MAX_PAGES, 2, HKV, PAGE_TOKENS, D];
  const values = new Float64Array(shape.reduce((a, b) => a * b, 1));
  for (let token = 0; token < LENGTH; token++) {
    const page = token < PAGE_TOKENS ? 1 : 0;
    [k, v].forEach((x, which) => {
      for (let h = 0; h < HKV; h++) {
        const to = (((page * 2 + which) * HKV + h) * PAGE_TOKENS + (token % PAGE_TOKENS)) * D;
        values.set(x.values.subarray((token * HKV + h) * D, (token * HKV + h + 1) * D), to);
      }
    });
  }
  if (dtype === "f16") return f16({ shape, values });
  return dtype === "f32" ? f32({ shape, values }) : blocksOf(shape, values);
}

/** Channels in blocks of 32: the scale, then signed bytes, nine words. */
function blocksOf(shape: readonly number[], values: Float64Array): HostTensor {
  const words = Array.from({ length: values.length / KV_BLOCK }, (_, block) => {
    const bytes = Int8Array.from(values.subarray(block * KV_BLOCK, (block + 1) * KV_BLOCK), (x) => x / SCALE);
    return [SCALE_BITS, ...new Uint32Array(bytes.buffer)];
  }).flat();
  return {
    shape: [...shape.slice(0, 4), words.length / shape.slice(0, 4).reduce((a, b) => a * b, 1)],
    data: Uint32Array.from(words),
  };
}
