import type { Device } from "../../src/gpu/device.ts";
import { attentionDecodePaged, attentionPaged, attentionQueryTile } from "../../src/ops/attention.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { attention as reference } from "../../src/reference/attention.ts";
import { assertClose } from "../support/close.ts";
import { roundToFloat16 } from "../support/float16.ts";
import { packQ80, roundToQ80 } from "../support/kv_q8_0.ts";
import type { Random } from "../support/random.ts";
import { tolerance } from "../support/tolerances.ts";
import { hostData } from "./attention_support.ts";

const PAGE = 32;
const NO_SLOT = 0xffffffff;

/** Sequences in a paged pool, and the rows of tokens to attend from. */
export interface PagedProblem {
  H: number;
  Hkv: number;
  D: number;
  maxPages: number;
  /** A sequence's keys, and how many of its last positions are queried; they stand in row order. */
  sequences: { keys: number; rows: number; prefix?: number }[];
  window?: number;
  softcap?: number;
  alibiSlopes?: number[];
  /** The weight is drawn. */
  relative?: { buckets: number; maxDistance: number; bidirectional: boolean };
  scale?: number;
  dtype?: "f32" | "f16" | "q8_0";
  maxSplits?: number;
  /** q are columns of a matrix wider by so many columns on each side. */
  margin?: number;
  /** Of the prefill op. */
  kernel?: "tiled" | "lanes";
}

interface Row {
  slot: number;
  position: number;
}

interface PagedData {
  q: Float64Array;
  rows: Row[];
  kv: Float64Array;
  pages: Uint32Array;
  /** Of each sequence `[Hkv, keys, D]`. */
  k: Float64Array[];
  v: Float64Array[];
  /** `[buckets, H]` of the relative bias. */
  bias: Float64Array;
}

const ROUND = { f32: (x: Float64Array) => x, f16: roundToFloat16, q8_0: roundToQ80 };

/** Random data; pages lie in a drawn order and unwritten places hold 1e30, so that reading one shows. */
export function drawPaged(random: Random, p: PagedProblem): PagedData {
  const round = ROUND[p.dtype ?? "f32"];
  const slots = p.sequences.length;
  const count = slots * p.maxPages;
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = random.int(0, i);
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  const kv = new Float64Array(count * 2 * p.Hkv * PAGE * p.D).fill(
    { f32: 1e30, f16: 60000, q8_0: 1e6 }[p.dtype ?? "f32"],
  );
  const k = p.sequences.map((s) => round(random.normals(p.Hkv * s.keys * p.D)));
  const v = p.sequences.map((s) => round(random.normals(p.Hkv * s.keys * p.D)));
  p.sequences.forEach((s, slot) => {
    for (let h = 0; h < p.Hkv; h++) {
      for (let j = 0; j < s.keys; j++) {
        const page = order[slot * p.maxPages + Math.floor(j / PAGE)] as number;
        for (let d = 0; d < p.D; d++) {
          const from = (h * s.keys + j) * p.D + d;
          const at = (which: number) => (((page * 2 + which) * p.Hkv + h) * PAGE + (j % PAGE)) * p.D + d;
          kv[at(0)] = (k[slot] as Float64Array)[from] as number;
          kv[at(1)] = (v[slot] as Float64Array)[from] as number;
        }
      }
    }
  });
  const rows = p.sequences.flatMap((s, slot) =>
    Array.from({ length: s.rows }, (_, i) => ({ slot, position: s.keys - s.rows + i })),
  );
  const bias = random.normals((p.relative?.buckets ?? 0) * p.H);
  return { q: random.normals(rows.length * p.H * p.D), rows, kv, pages: Uint32Array.from(order), k, v, bias };
}

/** What the float64 reference gives, `[N, H·D]`. */
export function expectedPaged(p: PagedProblem, data: PagedData): Float64Array {
  const out = new Float64Array(data.q.length);
  const width = p.H * p.D;
  data.rows.forEach(({ slot, position }, i) => {
    const { keys: S = 0, prefix = 0 } = p.sequences[slot] ?? {};
    const dims = { B: 1, H: p.H, Hkv: p.Hkv, T: 1, S, D: p.D, Dv: p.D };
    const { window, softcap, alibiSlopes, scale } = p;
    const relative = p.relative && { ...p.relative, weight: data.bias };
    const options = { causal: true, queryStart: position, window, softcap, alibiSlopes, scale, relative, prefix };
    const row = reference(
      data.q.subarray(i * width, (i + 1) * width),
      data.k[slot] as Float64Array,
      data.v[slot] as Float64Array,
      dims,
      options,
    );
    out.set(row.out, i * width);
  });
  return out;
}

/** Tiles as a host makes them: none crosses sequences or is longer than `size`. */
export function tilesOf(rows: readonly Row[], size: number, prefixes?: readonly number[]): Uint32Array {
  const tiles: number[] = [];
  for (let i = 0; i < rows.length; ) {
    const { slot, position } = rows[i] as Row;
    let n = 1;
    while (n < size && rows[i + n]?.slot === slot) n++;
    tiles.push(i, n, slot, position);
    if (prefixes) tiles.push(prefixes[slot] ?? 0, 0, 0, 0);
    i += n;
  }
  return Uint32Array.from(tiles);
}

function poolOf({ sequences, maxPages, Hkv, D, dtype }: PagedProblem, kv: Float64Array) {
  const page = [sequences.length * maxPages, 2, Hkv, PAGE];
  if (dtype === "q8_0") return { shape: [...page, (D / 32) * 9], data: packQ80(kv) };
  return { shape: [...page, D], data: hostData(kv, dtype) };
}

/** Runs a paged op, with one inactive row at the end, and compares with the reference. */
export async function checkPaged(
  device: Device,
  random: Random,
  p: PagedProblem,
  op: "prefill" | "decode",
): Promise<void> {
  const data = drawPaged(random, p);
  const want = expectedPaged(p, data);
  const N = data.rows.length + 1;
  const width = p.H * p.D;
  const margin = p.margin ?? 0;
  const wide = new Float32Array(N * (width + 2 * margin)).fill(3);
  for (let i = 0; i < data.rows.length; i++)
    wide.set(data.q.subarray(i * width, (i + 1) * width), i * (width + 2 * margin) + margin);
  const rows = [...data.rows, { slot: NO_SLOT, position: 0 }];
  const prefixes = p.sequences.some((s) => s.prefix) ? p.sequences.map((s) => s.prefix ?? 0) : undefined;
  const tileWords = prefixes ? 8 : 4;
  const tiles = tilesOf(rows, attentionQueryTile(device.facts), prefixes);
  const inputs = {
    wide: { shape: [N, width + 2 * margin], data: wide },
    kv: poolOf(p, data.kv),
    rowTable: { shape: [N, 2], data: Uint32Array.from(rows.flatMap((r) => [r.slot, r.position])) },
    pageTable: { shape: [p.sequences.length, p.maxPages], data: data.pages },
    // Tiles past those in use: `dims.tiles` keeps them from running.
    tileTable: {
      shape: [tiles.length / tileWords + 1, tileWords],
      data: Uint32Array.from([...tiles, ...tiles.slice(0, tileWords)]),
    },
    ...(p.alibiSlopes ? { slopes: { shape: [p.H], data: Float32Array.from(p.alibiSlopes) } } : {}),
    ...(p.relative ? { bias: { shape: [p.relative.buckets, p.H], data: Float32Array.from(data.bias) } } : {}),
  };
  const { window, softcap, scale } = p;
  const plain = { heads: p.H, kvHeads: p.Hkv, headDim: p.D, maxPages: p.maxPages, window, softcap, scale };
  const dims = { tiles: tiles.length / tileWords, keys: Math.max(...p.sequences.map((s) => s.keys)) };
  const result = await runOps(
    device,
    inputs,
    (rec, { wide: x, kv, rowTable, pageTable, tileTable, slopes, bias }) => {
      const { bidirectional, maxDistance } = p.relative ?? {};
      const relativeBias = bias && { weight: bias, bidirectional, maxDistance };
      const options = { ...plain, alibiSlopes: slopes, relativeBias };
      const view = { base: x, offset: margin, rowStride: width + 2 * margin };
      const q = margin === 0 ? x : { ...x, shape: [N, width], tensor: undefined, view };
      const paged = { q, kv, rowTable, pageTable };
      if (op === "prefill")
        return { out: attentionPaged(rec, { ...paged, tileTable }, { ...options, kernel: p.kernel }) };
      return { out: attentionDecodePaged(rec, paged, { ...options, maxSplits: p.maxSplits ?? 16 }) };
    },
    { dims },
  );
  const context = `${op} ${JSON.stringify(p)}, seed ${random.seed}, tier ${device.facts.tier}`;
  assertClose(result.out as Float32Array, [...want, ...new Float64Array(width)], {
    ...tolerance("f32", "attention"),
    shape: [N, p.H, p.D],
    context,
  });
}
