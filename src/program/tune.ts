import { isHeedError, throwIfAborted } from "../core/errors.ts";
import type { Device } from "../gpu/device.ts";
import { composeShader } from "../gpu/compose.ts";
import {
  formatResults,
  parseResults,
  type TuneBucket,
  type TuneReport,
  type TuneResult,
  type TuneStore,
  tuneBuckets,
  tuneKey,
} from "../gpu/tune.ts";
import { attention, attentionDecodePaged } from "../ops/attention.ts";
import { BUCKETS, FEW_ROWS } from "../ops/choices.ts";
import { LINEAR } from "../ops/linear.ts";
import { matmul, type MatmulLayout } from "../ops/matmul.ts";
import { only, type Value } from "../ops/op.ts";
import { kernelsOf, plan } from "./plan.ts";
import { ProgramRecorder } from "./record.ts";

/** What a candidate is timed by. */
export interface Candidate {
  record(rec: ProgramRecorder): Value;
  /** Inputs that are not to be zeros. */
  readonly inputs?: Readonly<Record<string, Uint32Array<ArrayBuffer>>>;
}

/** How {@link autotune} runs; the last three are for tests. */
export interface AutotuneOptions {
  readonly store?: TuneStore | undefined;
  /** Default 900: with what is before and after, under a second. */
  readonly budgetMs?: number;
  readonly time?: (candidate: Candidate, signal: AbortSignal) => Promise<number>;
  readonly now?: () => number;
  readonly buckets?: readonly TuneBucket<Candidate>[];
}

const BUDGET_MS = 900;
const REPEATS = 3;

/**
 * Chooses kernels for this device by measuring a few candidates for each op and bucket of shapes, in under a second, or by what was
 * measured before. Results are kept under the adapter's name and a hash of the kernels; a store that cannot be read or written
 * costs a measurement, and the report says why. Throws what the device throws.
 */
export async function autotune(device: Device, options: AutotuneOptions = {}): Promise<TuneReport> {
  const { store, budgetMs = BUDGET_MS, now = () => performance.now() } = options;
  const buckets = options.buckets ?? tuneCandidates(device);
  const time =
    options.time ?? ((candidate: Candidate, signal: AbortSignal) => timeCandidate(device, candidate, signal));
  const key = tuneKey(device, kernelTexts(device, buckets));
  let problem: string | null = null;
  const guarded = async <T>(work: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await work();
    } catch (error) {
      problem = error instanceof Error ? error.message : String(error);
      return undefined;
    }
  };
  const text = store && (await guarded(() => store.read(key)));
  const kept = text === undefined ? [] : ((await guarded(async () => parseResults(text, buckets))) ?? []);
  const missing = buckets.filter(({ name }) => !kept.some(({ bucket }) => bucket === name));
  const start = now();
  const measured = missing.length === 0 ? [] : await tuneBuckets({ buckets: missing, budgetMs, time, now });
  const elapsedMs = Math.round(now() - start);
  const results: TuneResult[] = [...kept, ...measured];
  if (store && measured.length > 0) await guarded(() => store.write(key, formatResults(results)));
  device.useChoices(Object.fromEntries(results.map(({ bucket, kernel }) => [bucket, kernel])));
  const open = missing.filter(({ name }) => !measured.some(({ bucket }) => bucket === name)).map(({ name }) => name);
  return {
    enabled: true,
    key,
    store: store?.description ?? null,
    kept: kept.length,
    results,
    open,
    elapsedMs,
    problem,
  };
}

/** The composed texts of the kernels that the candidates take: another text, another measurement. */
function kernelTexts({ facts }: Device, buckets: readonly TuneBucket<Candidate>[]): string[] {
  const texts = new Set<string>();
  for (const candidate of buckets.flatMap(({ candidates }) => Object.values(candidates))) {
    const rec = new ProgramRecorder("tune");
    try {
      candidate.record(rec);
      for (const kernel of kernelsOf(rec, facts)) texts.add(composeShader(kernel).code);
    } catch (error) {
      // A candidate that this device cannot run has no text that could change.
      if (!isHeedError(error)) throw error;
    }
  }
  return [...texts].sort();
}

/** The best of a few runs in ms; the first compiles. Leaves nothing allocated. */
async function timeCandidate(device: Device, candidate: Candidate, signal: AbortSignal): Promise<number> {
  const rec = new ProgramRecorder("tune");
  rec.output("out", candidate.record(rec));
  const planned = await plan(device, rec, { fuse: false });
  try {
    throwIfAborted(signal, "tune");
    for (const [name, data] of Object.entries(candidate.inputs ?? {})) planned.write(name, data);
    planned.replay();
    await device.idle();
    let best = Number.POSITIVE_INFINITY;
    // Short work is run several times at once, so that the way to the GPU does not count.
    for (let i = 0, batch = 1; i < REPEATS; i++) {
      const start = performance.now();
      for (let n = 0; n < batch; n++) planned.replay();
      await device.idle();
      throwIfAborted(signal, "tune");
      const elapsedMs = (performance.now() - start) / batch;
      best = Math.min(best, elapsedMs);
      if (elapsedMs > 30) break;
      batch = elapsedMs < 2 ? 4 : 1;
    }
    return best;
  } finally {
    planned.dispose();
  }
}

/** What is measured on this device: for each bucket the kernels that it can run, the rules' own choice first. */
export function tuneCandidates({ facts }: Device): TuneBucket<Candidate>[] {
  const subgroups = facts.software && facts.subgroupMin === facts.subgroupMax && [4, 8].includes(facts.subgroupMin);
  const order = <C>(first: string, candidates: Record<string, C>): Record<string, C> => ({
    ...(first in candidates ? { [first]: candidates[first] as C } : {}),
    ...candidates,
  });
  const prefill = facts.software ? "lanes" : "tiled";
  const product = facts.software ? "plain" : "tiled";
  const buckets: TuneBucket<Candidate>[] = [64, 128].map((dim) => ({
    name: BUCKETS.prefill(dim),
    candidates: order(prefill, { tiled: prefillOf(dim, "tiled"), lanes: prefillOf(dim, "lanes") }),
  }));
  buckets.push({
    name: BUCKETS.splits,
    candidates: order(facts.software ? "1" : "16", Object.fromEntries([1, 8, 16, 32].map((n) => [n, splitOf(n)]))),
  });
  for (const rows of FEW_ROWS) {
    const dense = subgroups ? "broadcast_nt" : product;
    const byRule = rows <= (facts.software ? 4 : 8) ? "matvec" : dense;
    const candidates = { matvec: linearOf(rows, "matvec"), [dense]: linearOf(rows, dense) };
    buckets.push({ name: BUCKETS.linear(rows), candidates: order(byRule, candidates) });
  }
  for (const form of ["nt", "nn", "tn"] as const) {
    const extra = subgroups ? (form === "nt" ? "broadcast_nt" : "broadcast_nn") : undefined;
    for (const size of ["small", "large"] as const) {
      const of = (kernel: string) => productOf(form, size, kernel);
      const candidates = { tiled: of("tiled"), plain: of("plain"), ...(extra ? { [extra]: of(extra) } : {}) };
      buckets.push({ name: BUCKETS.matmul(form, size), candidates: order(extra ?? product, candidates) });
    }
  }
  return buckets;
}

function prefillOf(dim: number, kernel: "tiled" | "lanes"): Candidate {
  const record = (rec: ProgramRecorder) => {
    const [heads, length] = [4, 256];
    const sizes = { batch: 1, heads, kvHeads: heads, headDim: dim, queryLength: length, keyLength: length } as const;
    const input = (name: string) => rec.input(name, [1, heads, length, dim], "f32");
    const qkv = { q: input("q"), k: input("k"), v: input("v") };
    return attention(rec, qkv, { ...sizes, layout: "bhtd", causal: true, kernel }).out;
  };
  return { record };
}

function splitOf(maxSplits: number): Candidate {
  const [heads, kvHeads, headDim, maxPages] = [8, 2, 64, 128];
  const record = (rec: ProgramRecorder) => {
    const inputs = {
      q: rec.input("q", [1, heads * headDim], "f32"),
      kv: rec.input("kv", [maxPages, 2, kvHeads, 32, headDim], "f32"),
      rowTable: rec.input("row_table", [1, 2], "u32"),
      pageTable: rec.input("page_table", [1, maxPages], "u32"),
    };
    return attentionDecodePaged(rec, inputs, { heads, kvHeads, headDim, maxPages, maxSplits });
  };
  // The row is the last of a full table: it sees every key.
  const inputs = {
    row_table: Uint32Array.of(0, maxPages * 32 - 1),
    page_table: Uint32Array.from({ length: maxPages }, (_, i) => i),
  };
  return { record, inputs };
}

function linearOf(rows: number, kernel: string): Candidate {
  const record = (rec: ProgramRecorder) => {
    const [x, weight] = [rec.input("x", [rows, 1024], "f32"), rec.input("weight", [1024, 1024], "f32")];
    const attrs = { kernel: kernel as NonNullable<Parameters<typeof LINEAR.infer>[1]["kernel"]> };
    return only(rec.record(LINEAR, { x, weight }, attrs));
  };
  return { record };
}

function productOf(form: "nt" | "nn" | "tn", size: "small" | "large", kernel: string): Candidate {
  const record = (rec: ProgramRecorder) => {
    const n = size === "small" ? 192 : 512;
    const [a, b] = [rec.input("a", [n, n], "f32"), rec.input("b", [n, n], "f32")];
    const layout = form.toUpperCase() as MatmulLayout;
    return matmul(rec, a, b, { layout, kernel: kernel as NonNullable<Parameters<typeof matmul>[3]["kernel"]> });
  };
  return { record };
}
