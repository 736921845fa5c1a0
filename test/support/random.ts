/** Seeded random numbers for tests: the same seed gives the same numbers on every machine. */
export interface Random {
  readonly seed: number;
  /** Uniform in [0, 1). */
  uniform(): number;
  /** Standard normal. */
  normal(): number;
  /** Uniform integer in [low, high], both included. */
  int(low: number, high: number): number;
  /** One of the items. */
  pick<T>(items: readonly T[]): T;
  /** `length` normal numbers times `scale`, each rounded to f32 so that the GPU sees the same values. */
  normals(length: number, scale?: number): Float64Array;
  /** `length` uniform integers in [low, high]. */
  ints(length: number, low: number, high: number): Int32Array;
}

/** A generator from a seed: mulberry32 for the bits, Box–Muller for the normals. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  const uniform = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  const int = (low: number, high: number): number => low + Math.floor(uniform() * (high - low + 1));
  return {
    seed,
    uniform,
    normal,
    int,
    pick<T>(items: readonly T[]): T {
      return items[int(0, items.length - 1)] as T;
    },
    normals: (length, scale = 1) => Float64Array.from({ length }, () => Math.fround(normal() * scale)),
    ints: (length, low, high) => Int32Array.from({ length }, () => int(low, high)),
  };
}

/**
 * The seed of a property test: `HEED_SEED` if set, else `fallback`; printed, so that a failure can be repeated.
 * Throws if `HEED_SEED` is not an integer.
 */
export function testSeed(label: string, fallback: number): number {
  // Shared with the browser, which has no process.
  const text = globalThis.process?.env["HEED_SEED"];
  const seed = text === undefined || text === "" ? fallback : Number(text);
  if (!Number.isInteger(seed)) throw new Error(`HEED_SEED must be an integer; got ${text}`);
  console.info(`${label}: seed ${seed} (repeat with HEED_SEED=${seed})`);
  return seed;
}
