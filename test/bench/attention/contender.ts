import { GentleWait } from "../../../src/gpu/gentle_wait.ts";
import { createRandom } from "../../support/random.ts";

/** One attention problem: `q [B, H, T, D]`, `k` and `v` `[B, Hkv, S, D]`, f32, scale 1/√D. */
export interface BenchShape {
  readonly B: number;
  readonly H: number;
  readonly Hkv: number;
  readonly T: number;
  readonly S: number;
  readonly D: number;
  readonly causal: boolean;
  /** Own key and the n − 1 before. */
  readonly window?: number;
  /** Time dq, dk and dv of a given dout instead, the forward pass included. */
  readonly backward?: boolean;
}

/** The numbers of a problem in `[B, H, T, D]` order. */
export interface BenchData {
  readonly q: Float32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  /** `[B, H, T, D]`; for backward. */
  readonly dout: Float32Array;
}

/** What a run gives: out, or dq, dk and dv. */
export type BenchResult = readonly Float32Array[];

/** One problem of one contender, its inputs on the GPU. */
export interface Runner {
  /** Computes once and resolves with the results on the host, in `[B, H, T, D]` order or as `layout` says. */
  run(): Promise<BenchResult>;
  /** Default "bhtd". */
  readonly layout?: "bhtd" | "bthd";
  dispose(): Promise<void> | void;
}

/** An engine that the benchmark times. */
export interface Contender {
  readonly name: string;
  /** Of Heed itself: not a peer. */
  readonly own?: boolean;
  /** Undefined where the engine has no such thing. */
  prepare(shape: BenchShape, data: BenchData): Promise<Runner | undefined>;
  dispose(): Promise<void> | void;
}

/** Gives a peer the naps that Heed takes while it waits for a CPU adapter, so that engines are compared and not how they wait. */
export function napping(contender: Contender): Contender {
  const naps = GentleWait.for(true);
  return {
    ...contender,
    async prepare(shape, data) {
      const runner = await contender.prepare(shape, data);
      if (!runner) return undefined;
      return {
        layout: runner.layout,
        async run() {
          naps?.enter();
          try {
            return await runner.run();
          } finally {
            naps?.leave();
          }
        },
        dispose: () => runner.dispose(),
      };
    },
  };
}

/** Normal numbers, so that weights differ from key to key. */
export function drawData({ B, H, Hkv, T, S, D }: BenchShape): BenchData {
  const random = createRandom(11);
  const draw = (count: number) => Float32Array.from(random.normals(count));
  return { q: draw(B * H * T * D), k: draw(B * Hkv * S * D), v: draw(B * Hkv * S * D), dout: draw(B * H * T * D) };
}

/**
 * Multiply-adds count as two; those of keys that the mask rules out do not count. Backward: five products
 * after the two of forward. */
export function flopsOf(shape: BenchShape): number {
  const { B, H, T, D, backward } = shape;
  let pairs = 0;
  for (let t = 0; t < T; t++) {
    const [begin, end] = keyRange(shape, t);
    pairs += end - begin;
  }
  return (backward ? 14 : 4) * B * H * D * pairs;
}

/** First and end of the keys that query t keeps. */
export function keyRange({ S, T, causal, window }: BenchShape, t: number): readonly [number, number] {
  const end = causal ? Math.min(S, t + 1 + S - T) : S;
  return [window === undefined ? 0 : Math.max(0, end - window), end];
}

/** `[B, H, T, D]` to `[B, T, H, D]`; and back with H and T exchanged. */
export function exchangeHeads(x: Float32Array, B: number, H: number, T: number, D: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      for (let t = 0; t < T; t++) {
        const from = ((b * H + h) * T + t) * D;
        out.set(x.subarray(from, from + D), ((b * T + t) * H + h) * D);
      }
    }
  }
  return out;
}
