import { HeedError, isHeedError } from "../core/errors.ts";
import type { Device } from "./device.ts";

/** Keeps what was measured, by key: a file in Node, IndexedDB in a page. What it throws costs a measurement, nothing else. */
export interface TuneStore {
  /** Where it is, for people. */
  readonly description: string;
  read(key: string): Promise<string | undefined>;
  write(key: string, text: string): Promise<void>;
}

/** Kernels to choose from for one op and one bucket of shapes. */
export interface TuneBucket<C = unknown> {
  readonly name: string;
  /** By name; the first is what the rules choose. */
  readonly candidates: Readonly<Record<string, C>>;
}

/** What was measured in one bucket, in ms by candidate; the kernel is the fastest. */
export interface TuneResult {
  readonly bucket: string;
  readonly kernel: string;
  readonly elapsedMs: Readonly<Record<string, number>>;
}

/** What tuning came to. */
export interface TuneReport {
  readonly enabled: true;
  /** Adapter, tier and hash of the kernels. */
  readonly key: string;
  /** Where results are kept; null where they are not. */
  readonly store: string | null;
  /** How many of the results were kept from before. */
  readonly kept: number;
  readonly results: readonly TuneResult[];
  /** Buckets that time ran out for: the next start goes on with them. */
  readonly open: readonly string[];
  /** Wall time of measuring. */
  readonly elapsedMs: number;
  /** Why kept results could not be read or written. */
  readonly problem: string | null;
}

/** How {@link tuneBuckets} measures. */
export interface TuneOptions<C> {
  readonly buckets: readonly TuneBucket<C>[];
  /** Wall time for all of it. */
  readonly budgetMs: number;
  /** Milliseconds that a candidate takes; what it does is of no use once the signal is aborted. */
  time(candidate: C, signal: AbortSignal): Promise<number>;
  /** A clock in ms. */
  now(): number;
}

/** A candidate has to be faster than the rules' choice by so much: timings vary. */
const MARGIN = 0.95;

/**
 * Times the candidates of bucket after bucket until the budget does not allow for another; a bucket that was not finished has no
 * result. A candidate that throws `UNSUPPORTED` is left out. At the budget's end the one that runs is left to itself: a compilation
 * cannot be stopped.
 */
export async function tuneBuckets<C>({ buckets, budgetMs, time, now }: TuneOptions<C>): Promise<TuneResult[]> {
  const start = now();
  const results: TuneResult[] = [];
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(), budgetMs);
  const ended = new Promise<undefined>((resolve) => {
    end.signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
  try {
    await measureAll();
  } finally {
    clearTimeout(timer);
  }
  return results;

  async function measureAll(): Promise<void> {
    let longest = 0;
    for (const { name, candidates } of buckets) {
      const elapsedMs: Record<string, number> = {};
      for (const [kernel, candidate] of Object.entries(candidates)) {
        // What is begun has to end within the budget: it will hardly take longer than the longest so far, or a fifth of all.
        if (now() - start + Math.max(longest, budgetMs / 5) > budgetMs) return;
        const began = now();
        try {
          const timing = time(candidate, end.signal);
          timing.catch(() => {});
          const found = await Promise.race([timing, ended]);
          if (found === undefined) return;
          elapsedMs[kernel] = found;
        } catch (error) {
          if (!isHeedError(error, "UNSUPPORTED") && !isHeedError(error, "LIMIT")) throw error;
        }
        longest = Math.max(longest, now() - began);
      }
      const [first] = Object.keys(candidates);
      const kernel = fastest(elapsedMs, first ?? "");
      if (kernel !== undefined) results.push({ bucket: name, kernel, elapsedMs });
    }
  }
}

function fastest(elapsedMs: Readonly<Record<string, number>>, first: string): string | undefined {
  const [best] = Object.entries(elapsedMs).sort(([, a], [, b]) => a - b);
  if (!best) return undefined;
  const byRule = elapsedMs[first];
  return byRule !== undefined && best[1] > byRule * MARGIN ? first : best[0];
}

/** The name under which a device's results are kept: of its adapter, its tier, and the texts of the kernels. */
export function tuneKey({ adapter, facts }: Device, kernels: readonly string[]): string {
  const parts = [adapter.vendor, adapter.architecture, adapter.device, adapter.description, facts.tier];
  const readable = `${adapter.vendor}-${adapter.architecture}-${facts.tier}`.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return `${readable}-${hash(parts.join("|"))}-${hash(kernels.join("\n"))}`;
}

/** 53 bits of a text (cyrb53): two runs of multiply and shift. */
function hash(text: string): string {
  let [a, b] = [0xdeadbeef, 0x41c6ce57];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    a = Math.imul(a ^ code, 2654435761);
    b = Math.imul(b ^ code, 1597334677);
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909);
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909);
  return (2097152 * (b >>> 0) + (a >>> 11)).toString(36);
}

/** Results as text, and back. */
export function formatResults(results: readonly TuneResult[]): string {
  return `${JSON.stringify({ version: 1, results }, null, 1)}\n`;
}

/**
 * The results in a text that {@link formatResults} made, for buckets and candidates that there are. Throws `BAD_FILE` for any other
 * text; what has another bucket or candidate is left out.
 */
export function parseResults(text: string, buckets: readonly TuneBucket[]): TuneResult[] {
  const bad = () => new HeedError("BAD_FILE", "tune: the kept results cannot be read. They are measured again.");
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw bad();
  }
  const { version, results } = (content ?? {}) as { version?: unknown; results?: unknown };
  if (version !== 1 || !Array.isArray(results)) throw bad();
  return results.flatMap((item): TuneResult[] => {
    const { bucket, kernel, elapsedMs } = (item ?? {}) as Partial<Record<keyof TuneResult, unknown>>;
    const known = buckets.find(({ name }) => name === bucket);
    const isKnown = typeof kernel === "string" && known !== undefined && Object.hasOwn(known.candidates, kernel);
    if (!isKnown || typeof elapsedMs !== "object" || elapsedMs === null) return [];
    const times = Object.entries(elapsedMs).filter(([, ms]) => typeof ms === "number" && Number.isFinite(ms));
    return [{ bucket: known.name, kernel, elapsedMs: Object.fromEntries(times) as Record<string, number> }];
  });
}
