import type { Device } from "../../src/gpu/device.ts";
import { attention } from "../../src/ops/attention.ts";
import { headWeights, headWeightsPaged } from "../../src/ops/head_weights.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { attention as reference } from "../../src/reference/attention.ts";
import { assertClose } from "../support/close.ts";
import { roundToFloat16 } from "../support/float16.ts";
import { assertShapeError, f16, f32, u32, withGpuVariants } from "../support/host.ts";
import { packQ80, roundToQ80 } from "../support/kv_q8_0.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { tolerance } from "../support/tolerances.ts";

interface Problem {
  readonly H: number;
  readonly Hkv: number;
  readonly T: number;
  readonly D: number;
  readonly heads: readonly number[];
  readonly queries: readonly number[];
  readonly window?: number;
  readonly size?: number;
  readonly prefix?: number;
  readonly causal?: boolean;
  readonly softcap?: number;
  readonly slopes?: readonly number[];
  /** `[8, H]` */
  readonly bias?: readonly number[];
}

const PROBLEM: Problem = { H: 4, Hkv: 2, T: 19, D: 6, heads: [0, 1, 2, 3], queries: [...Array(19).keys()] };

/** `[T, H·D]` → `[1, H, T, D]`. */
function toHeads(rows: Float64Array, H: number, T: number, D: number): Float64Array {
  return rows.map((_, i) => {
    const [h, t, d] = [Math.floor(i / (T * D)), Math.floor(i / D) % T, i % D];
    return rows[(t * H + h) * D + d]!;
  });
}

/** All weights `[H, T, T]` in float64, of rows of q and k. */
function weightsOf(q: Float64Array, k: Float64Array, p: Problem): Float64Array {
  const { H, Hkv, T, D, window, causal = true, prefix, softcap, slopes, bias } = p;
  const dims = { B: 1, H, Hkv, T, S: T, D, Dv: D };
  const [qh, kh] = [toHeads(q, H, T, D), toHeads(k, Hkv, T, D)];
  return reference(qh, kh, kh, dims, {
    ...{ causal, window, prefix, softcap, alibiSlopes: slopes },
    relative: bias && { buckets: 8, maxDistance: 20, bidirectional: false, weight: bias },
  }).probs;
}

function pick(all: Float64Array, T: number, heads: readonly number[], queries: readonly number[], keys = T): number[] {
  return heads.flatMap((h) =>
    queries.flatMap((t) => Array.from({ length: keys }, (_, j) => (j < T ? all[(h * T + t) * T + j]! : 0))),
  );
}

async function checkDense(device: Device, p: Problem): Promise<void> {
  const { H, Hkv, T, D, heads, queries, size = 1 } = p;
  const random = createRandom(T * 100 + D);
  const [q, k] = [random.normals(T * H * D, size), random.normals(T * Hkv * D, size)];
  const inputs = {
    q: f32([T, H * D], q),
    k: f32([T, Hkv * D], k),
    headList: u32([heads.length], heads),
    queries: u32([queries.length], queries),
    ...(p.slopes ? { slopes: f32([H], p.slopes) } : {}),
    ...(p.bias ? { bias: f32([8, H], p.bias) } : {}),
  };
  const { window, causal = true, prefix, softcap } = p;
  const { summed, rebuilt } = await runOps(device, inputs, (rec, { slopes, bias, ...v }) => {
    const sizes = { batch: 1, queryLength: T, keyLength: T, layout: "rows", keep: "lse" } as const;
    const options = {
      ...{ heads: H, kvHeads: Hkv, headDim: D, scale: D ** -0.5, window, causal, prefix, softcap },
      ...{ alibiSlopes: slopes, relativeBias: bias && { weight: bias, maxDistance: 20 } },
    };
    const { lse } = attention(rec, { q: v.q, k: v.k, v: v.k }, { ...sizes, ...options });
    return { summed: headWeights(rec, v, options), rebuilt: headWeights(rec, { ...v, lse }, options) };
  });
  const expected = pick(weightsOf(q, k, p), T, heads, queries);
  const shape = [heads.length, queries.length, T];
  assertClose(summed!, expected, { ...tolerance("f32", "attention"), label: "summed", shape });
  assertClose(rebuilt!, expected, { ...tolerance("f32", "attention"), label: "from lse", shape });
}

/** Three rows over a pool: slot 1 at its 40th key, slot 0 at its first, and one without a token. */
async function checkPaged(device: Device, dtype: "f32" | "f16" | "q8_0"): Promise<void> {
  const [H, Hkv, D, T, maxPages, pages] = [4, 2, dtype === "q8_0" ? 32 : 8, 40, 3, 4];
  const random = createRandom(77);
  const rounded = { f32: (x: Float64Array) => x, f16: roundToFloat16, q8_0: roundToQ80 }[dtype];
  const [q, k] = [random.normals(T * H * D), rounded(random.normals(T * Hkv * D))];
  const pool = new Float64Array(pages * 2 * Hkv * 32 * D).fill(3);
  const table = [2, 0, 0, 3, 1, 0];
  const put = (slot: number, key: number, row: number) => {
    for (let h = 0; h < Hkv; h++) {
      const page = table[slot * maxPages + Math.floor(key / 32)]!;
      const at = ((page * 2 * Hkv + h) * 32 + (key % 32)) * D;
      for (let d = 0; d < D; d++) pool[at + d] = k[(row * Hkv + h) * D + d]!;
    }
  };
  for (let key = 0; key < T; key++) put(1, key, key);
  put(0, 0, 0);
  const row = (t: number) => [...q.subarray(t * H * D, (t + 1) * H * D)];
  const kv =
    dtype === "q8_0"
      ? u32([pages, 2, Hkv, 32, (D / 32) * 9], packQ80(pool))
      : (dtype === "f16" ? f16 : f32)([pages, 2, Hkv, 32, D], pool);
  const inputs = {
    q: f32([3, H * D], [...row(T - 1), ...row(0), ...row(5)]),
    kv,
    headList: u32([2], [3, 1]),
    rowTable: u32([3, 2], [1, T - 1, 0, 0, 0xffffffff, 7]),
    pageTable: u32([2, maxPages], table),
  };
  const options = { heads: H, kvHeads: Hkv, headDim: D, scale: D ** -0.5 };
  const { out } = await runOps(device, inputs, (rec, v) => ({ out: headWeightsPaged(rec, v, options) }));
  const all = weightsOf(q, k, { ...PROBLEM, H, Hkv, T, D });
  const keys = maxPages * 32;
  const none = Array<number>(keys).fill(0);
  const expected = [3, 1].flatMap((h) => [...pick(all, T, [h], [T - 1], keys), 1, ...none.slice(1), ...none]);
  assertClose(out!, expected, { ...tolerance("f32", "attention"), shape: [2, 3, keys] });
}

export const cases = opCases("head_weights", (add) => {
  add("matches the reference for every head and query, summed here and from lse (grouped heads)", (device) =>
    checkDense(device, PROBLEM),
  );
  add("matches it for chosen heads and queries, a window, one key, and scores of ±1e4", async (device) => {
    await checkDense(device, { ...PROBLEM, heads: [3, 1], queries: [18, 0, 7] });
    await checkDense(device, { ...PROBLEM, T: 67, heads: [2], queries: [66, 3], window: 5 });
    await checkDense(device, { ...PROBLEM, T: 1, heads: [0], queries: [0] });
    await checkDense(device, { ...PROBLEM, D: 4, queries: [4, 18], size: 70 });
  });
  add("matches it with a prefix, without a mask, with a soft cap, slopes and relative biases", async (device) => {
    await checkDense(device, { ...PROBLEM, prefix: 7, softcap: 1.5 });
    await checkDense(device, { ...PROBLEM, causal: false, slopes: [1, 0.5, 0.25, 0.125] });
    const bias = [...createRandom(8).normals(32)];
    await checkDense(device, { ...PROBLEM, T: 40, queries: [39, 2], bias });
  });
  add("matches it with the variants of GPUs", (device) =>
    withGpuVariants(device, () => checkDense(device, { ...PROBLEM, T: 67, queries: [66, 2] })),
  );
  add("matches it over a paged pool, 0 for a row without a token (f32)", (device) => checkPaged(device, "f32"));
  add("matches it over a paged pool (f16)", (device) => checkPaged(device, "f16"));
  add("matches it over a paged pool (q8_0)", (device) => checkPaged(device, "q8_0"));
  add("refuses keys of another length", (device) =>
    assertShapeError(() => {
      const zeros = (rows: number) => f32([rows, 4], Array(rows * 4).fill(0));
      const inputs = { q: zeros(2), k: zeros(3), headList: u32([1], [0]), queries: u32([1], [0]) };
      const options = { heads: 1, kvHeads: 1, headDim: 4, scale: 1 };
      return runOps(device, inputs, (rec, v) => ({ out: headWeights(rec, v, options) }));
    }, "head_weights: k must be [2, 4] f32 or f16; got k [3, 4] f32."),
  );
});
