import type { Device } from "../../src/gpu/device.ts";
import {
  FAILED_TOKEN,
  packSampling,
  packSeen,
  RING_HEADER,
  RING_STEPS,
  ringIndex,
  ringLength,
  SAMPLING_WORDS,
  type SampleAttrs,
  type SamplingSettings,
  sampleToken,
  seenWords,
} from "../../src/ops/sample.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { philox4x32 } from "../../src/reference/dropout.ts";
import { argmax, drawToken, sampleDistribution } from "../../src/reference/sample.ts";
import { assertShapeError, f32, GPU_VARIANT_TIERS, u32, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";

const INACTIVE = 0xffffffff;

interface Row {
  logits: ArrayLike<number>;
  settings?: SamplingSettings;
  seen?: readonly number[];
  position?: number;
  inactive?: boolean;
}

interface Sampled {
  tokens: number[];
  positions: number[];
  ring: Uint32Array;
  /** Seen bits of each row's slot. */
  seen: Uint32Array[];
}

/** Runs `steps` calls in one Program. Row n uses slot N − 1 − n, so that mixing the two up shows. */
async function sampleRows(
  device: Device,
  rows: readonly Row[],
  mode: SampleAttrs["mode"],
  { steps = 1, step = 0 } = {},
): Promise<Sampled> {
  const N = rows.length;
  const V = rows[0]!.logits.length;
  const words = seenWords(V);
  const seen = new Uint32Array(N * words);
  const sampling = new Uint32Array(N * SAMPLING_WORDS);
  rows.forEach((row, n) => {
    seen.set(packSeen(row.seen ?? [], V), (N - 1 - n) * words);
    sampling.set(packSampling(row.settings), (N - 1 - n) * SAMPLING_WORDS);
  });
  const ring = new Uint32Array(ringLength(N)).fill(77);
  ring[0] = step;
  const inputs = {
    logits: f32(
      [N, V],
      rows.flatMap((row) => Array.from(row.logits)),
    ),
    rowTable: u32(
      [N, 2],
      rows.flatMap((row, n) => [row.inactive ? INACTIVE : N - 1 - n, row.position ?? 0]),
      "state",
    ),
    tokens: u32([N], new Uint32Array(N).fill(99), "state"),
    ring: u32([ringLength(N)], ring, "state"),
    seen: u32([N, words], seen, "state"),
    sampling: u32([N, SAMPLING_WORDS], sampling, "state"),
  };
  const got = await runOps(device, inputs, (rec, v) => {
    for (let i = 0; i < steps; i++) sampleToken(rec, v, { mode });
    return { rowTable: v.rowTable, tokens: v.tokens, ring: v.ring, seen: v.seen };
  });
  return {
    tokens: Array.from(got["tokens"]!),
    positions: rows.map((_, n) => got["rowTable"]![2 * n + 1]!),
    ring: got["ring"] as Uint32Array,
    seen: rows.map((_, n) => (got["seen"] as Uint32Array).slice((N - 1 - n) * words, (N - n) * words)),
  };
}

function assertEqual(actual: ArrayLike<number>, expected: ArrayLike<number>, label: string): void {
  const [a, e] = [Array.from(actual).join(", "), Array.from(expected).join(", ")];
  if (a !== e) throw new Error(`${label}: got [${a}], expected [${e}]`);
}

/** The uniform number that the GPU draws for a seed and a position. */
function uniformOf(seed: number, position: number): number {
  return ((philox4x32([position, 0, 0, 0], [seed, 0])[0] >>> 8) + 0.5) / 2 ** 24;
}

/** What f32 sums of the weights may be off, as a share of their total. */
const SLACK = 2e-6;

/** Throws unless each row's token is what inverse transform gives in float64, or its neighbour where u is within rounding. */
async function checkDraws(device: Device, rows: readonly Row[]): Promise<void> {
  const { tokens } = await sampleRows(device, rows, "sample");
  rows.forEach((row, n) => {
    const logits = Float64Array.from(row.logits, Math.fround);
    const { topK, ...settings } = row.settings ?? {};
    const u = uniformOf(Number(settings.seed ?? 0), row.position ?? 0);
    const probs = sampleDistribution(logits, { ...settings, topK: topK || undefined, previous: row.seen });
    const allowed = [u - SLACK, u, u + SLACK].map((at) => drawToken(probs, at));
    if (!allowed.includes(tokens[n]!)) {
      throw new Error(
        `row ${n} ${JSON.stringify(row.settings)} u=${u}: got ${tokens[n]}, expected ${allowed.join(" or ")}`,
      );
    }
  });
}

const FILTERS: readonly SamplingSettings[] = [
  {},
  { temperature: 0.3 },
  { temperature: 2.5 },
  { topK: 1 },
  { topK: 7 },
  { topK: 1000 },
  { topP: 0.5 },
  { topP: 0.95 },
  { topP: 1e-6 },
  { minP: 0.05 },
  { minP: 1 },
  { repetitionPenalty: 1.7 },
  { repetitionPenalty: 0.5, temperature: 0.7 },
  { temperature: 0.8, topK: 40, topP: 0.9, minP: 0.02, repetitionPenalty: 1.3 },
];

function drawnRows(V: number, scale: number, seed: number): Row[] {
  const random = createRandom(seed);
  return FILTERS.map((settings) => ({
    logits: random.normals(V, scale),
    settings: { ...settings, seed: random.int(0, 1e9) },
    seen: Array.from(random.ints(5, 0, V - 1)),
    position: random.int(0, 5000),
  }));
}

export const cases = opCases("sample", (add) => {
  add("greedy takes the largest logit of each row (control), the lowest of equals", async (device) => {
    for (const V of [1, 7, 255, 257, 5000]) {
      const random = createRandom(V);
      const rows = [1, 2, 3].map(() => ({ logits: random.ints(V, -4, 4) }));
      const { tokens } = await sampleRows(device, rows, "greedy");
      assertEqual(
        tokens,
        rows.map((row) => argmax(row.logits)),
        `V=${V}`,
      );
    }
  });
  add("greedy applies the repetition penalty to tokens that were seen", async (device) => {
    const rows: Row[] = [
      { logits: [5, 4, 1], settings: { repetitionPenalty: 2 }, seen: [0] },
      { logits: [-1, -1.5, -3], settings: { repetitionPenalty: 2 }, seen: [0] },
      { logits: [5, 4, 1], settings: { repetitionPenalty: 2 }, seen: [0, 1] },
    ];
    assertEqual((await sampleRows(device, rows, "greedy")).tokens, [1, 1, 0], "tokens");
  });
  add("writes token, ring, seen bit and position; leaves inactive rows alone", async (device) => {
    const rows: Row[] = [
      { logits: new Float32Array(70).fill(0, 0, 69).fill(1, 69), position: 4, seen: [3] },
      { logits: new Float32Array(70), inactive: true, position: 8, seen: [1] },
      { logits: Float32Array.from({ length: 70 }, (_, i) => -i), position: 0 },
    ];
    for (const mode of ["greedy", "sample"] as const) {
      const greedy = rows.map((row) => ({ ...row, settings: { temperature: 0 } }));
      const got = await sampleRows(device, greedy, mode, { step: RING_STEPS + 2 });
      assertEqual(got.tokens, [69, 99, 0], `${mode} tokens`);
      assertEqual(got.positions, [5, 8, 1], `${mode} positions`);
      assertEqual(got.ring.subarray(0, RING_HEADER), [RING_STEPS + 3, 77, 77, 77], `${mode} ring header`);
      const at = ringIndex(RING_STEPS + 2, 0, 3);
      assertEqual(got.ring.subarray(at - 1, at + 4), [77, 69, 77, 0, 77], `${mode} ring`);
      assertEqual(got.seen[0]!, packSeen([3, 69], 70), `${mode} seen`);
      assertEqual(got.seen[1]!, packSeen([1], 70), `${mode} seen of the inactive row`);
      assertEqual(got.seen[2]!, packSeen([0], 70), `${mode} seen`);
    }
  });
  add("does several steps in one Program", async (device) => {
    const rows: Row[] = [{ logits: [3, 2, 1, 0], settings: { repetitionPenalty: 10 }, position: 7 }];
    const got = await sampleRows(device, rows, "greedy", { steps: 3 });
    assertEqual(got.ring.subarray(RING_HEADER, RING_HEADER + 4), [0, 1, 2, 77], "ring");
    assertEqual([got.positions[0]!, got.ring[0]!], [10, 3], "position and step");
  });
  add("draws what inverse transform draws in float64, under every filter", async (device) => {
    await checkDraws(device, drawnRows(50, 2, 1));
    await checkDraws(device, drawnRows(1003, 3, 2));
    await checkDraws(device, drawnRows(3, 1, 3));
  });
  add("draws the same at logits of ±1e4", (device) => checkDraws(device, drawnRows(200, 1e4, 4)));
  add("draws the same under 50 drawn settings", (device) => {
    const random = createRandom(121);
    const rows = Array.from({ length: 50 }, (): Row => {
      const settings: SamplingSettings = {
        temperature: random.int(1, 30) / 10,
        topK: random.pick([0, random.int(1, 60)]),
        topP: random.pick([1, random.int(1, 99) / 100]),
        minP: random.pick([0, random.int(1, 30) / 100]),
        repetitionPenalty: random.int(5, 20) / 10,
        seed: random.int(0, 2 ** 31),
      };
      const seen = Array.from(random.ints(9, 0, 76));
      return { logits: random.normals(77, random.int(1, 5)), settings, seen, position: random.int(0, 9999) };
    });
    return checkDraws(device, rows);
  });
  add("keeps ties as the filters say: all at the k-th, in the order of tokens at top-p", async (device) => {
    const logits = [1, 3, 2, 3, 2, 3, 2, 2, 0, -0];
    const settings: SamplingSettings[] = [
      { topK: 2 },
      { topK: 4 },
      { topK: 9 },
      { topP: 0.3 },
      { topP: 0.5 },
      { topP: 0.75 },
      { topP: 0.85 },
    ];
    const rows = settings.flatMap((s) =>
      Array.from({ length: 12 }, (_, i) => ({ logits, settings: { ...s, seed: i } })),
    );
    await checkDraws(device, rows);
    await checkDraws(
      device,
      Array.from({ length: 16 }, (_, i) => ({ logits: new Float32Array(64), settings: { topP: 0.25, seed: i } })),
    );
  });
  add("follows the distribution: 512 draws from 6 tokens", async (device) => {
    const logits = [0, 1, 2, -1, 0.5, 1.5];
    const settings = { temperature: 0.9, topP: 0.9 };
    const rows = Array.from({ length: 512 }, (_, i) => ({ logits, settings: { ...settings, seed: 5 }, position: i }));
    const { tokens } = await sampleRows(device, rows, "sample");
    const probs = sampleDistribution(Float64Array.from(logits), settings);
    probs.forEach((p, id) => {
      const count = tokens.filter((t) => t === id).length;
      // Five standard deviations; the draw is seeded, so this passes always or never.
      if (Math.abs(count - 512 * p) > 5 * Math.sqrt(512 * p * (1 - p)))
        throw new Error(`token ${id}: ${count} of 512, p ${p}`);
    });
  });
  add("a row's draw depends on its seed and position, not on its batch", async (device) => {
    const row: Row = { logits: createRandom(6).normals(300), settings: { seed: 123, topP: 0.95 }, position: 17 };
    const others = drawnRows(300, 1, 8);
    const alone = await sampleRows(device, [row], "sample");
    const among = await sampleRows(device, [...others.slice(0, 5), row, ...others.slice(5)], "sample");
    assertEqual([among.tokens[5]!], alone.tokens, "token in a batch");
    const again = await sampleRows(
      device,
      [row, { ...row, position: 18 }, { ...row, settings: { seed: 124 } }],
      "sample",
    );
    if (again.tokens[0] !== alone.tokens[0]) throw new Error("the same draw gave another token");
    if (new Set(again.tokens).size === 1) throw new Error("other seeds and positions gave the same token");
  });
  add(
    "draws the same with a workgroup of 256, as GPUs run it",
    (device) =>
      withGpuVariants(device, async () => {
        await checkDraws(device, drawnRows(1003, 3, 2));
        const random = createRandom(9);
        const rows = [1, 2].map(() => ({ logits: random.ints(9000, -4, 4) }));
        const { tokens } = await sampleRows(device, rows, "greedy");
        const expected = rows.map((row) => argmax(row.logits));
        assertEqual(tokens, expected, "greedy");
      }),
    GPU_VARIANT_TIERS,
  );
  add(
    "flags rows without a distribution: NaN, +Infinity, or all masked; −Infinity among others is a mask",
    async (device) => {
      const { NaN: nan, POSITIVE_INFINITY: inf, NEGATIVE_INFINITY: masked } = Number;
      const rows: Row[] = [
        [0, nan, 1],
        [nan, nan, nan],
        [0, inf, 1],
        [masked, masked, masked],
        [masked, -5, masked],
      ].map((logits) => ({
        logits,
        settings: { temperature: 1, topK: 2, topP: 0.9, repetitionPenalty: 1.1 },
        seen: [0],
      }));
      const expected = [FAILED_TOKEN, FAILED_TOKEN, FAILED_TOKEN, FAILED_TOKEN, 1];
      for (const mode of ["greedy", "sample"] as const) {
        assertEqual((await sampleRows(device, rows, mode)).tokens, expected, mode);
      }
    },
  );
  add("refuses states of another size and settings out of range", async (device) => {
    const state = (...shape: number[]) => u32(shape, new Uint32Array(shape.reduce((a, b) => a * b, 1)), "state");
    const inputs = {
      logits: f32([1, 40], new Float32Array(40)),
      rowTable: state(1, 2),
      tokens: state(1),
      ring: state(9),
      seen: state(1, 2),
      sampling: state(1, SAMPLING_WORDS),
    };
    await assertShapeError(
      () =>
        runOps(device, inputs, (rec, v) => {
          sampleToken(rec, v, { mode: "greedy" });
          return { tokens: v.tokens };
        }),
      "sample: ring must be [68] u32; got ring [9] u32.",
    );
    for (const settings of [
      { temperature: -1 },
      { topP: 0 },
      { minP: 2 },
      { topK: 1.5 },
      { repetitionPenalty: 0 },
      { seed: 0.5 },
    ]) {
      let message = "";
      try {
        packSampling(settings);
      } catch (error) {
        message = (error as Error).message;
      }
      if (!message.startsWith(`sample: ${Object.keys(settings)[0]} must be`))
        throw new Error(`${JSON.stringify(settings)}: "${message}"`);
    }
  });
});
