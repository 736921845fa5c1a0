import { isHeedError } from "../../src/core/errors.ts";
import type { Device } from "../../src/gpu/device.ts";
import { type AttentionOptions, attention, attentionQueryTile } from "../../src/ops/attention.ts";
import { ProgramRecorder } from "../../src/program/record.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom, type Random } from "../support/random.ts";
import { checkFused, type Problem, problem } from "./attention_support.ts";

/** Draws a specification. Lengths are always given and lse always kept, so that all draws share few pipelines. */
function drawProblem(random: Random): Problem {
  const Hkv = random.pick([1, 2, 3]);
  const H = Hkv * random.pick([1, 2, 4]);
  const B = random.int(1, 3);
  const T = random.pick([1, 2, 7, 31, 32, 33, 70]);
  const S = random.pick([1, 8, 31, 33, 64, 97]);
  const D = random.pick([4, 8, 20, 36, 64, 7]);
  return {
    ...{ B, H, Hkv, T, S, D, Dv: random.pick([D, 12, 3]) },
    causal: random.pick([true, false]),
    window: random.pick([undefined, undefined, 1, 9, 40]),
    queryStart: random.pick([0, Math.max(0, S - T), 5]),
    keyLengths: Array.from({ length: B }, () => random.pick([S, random.int(0, S)])),
    scale: random.pick([undefined, 0.3]),
    layout: random.pick(["bhtd", "rows"] as const),
  };
}

/** Asserts the code and the message of what recording `options` throws. */
function checkRejected(given: Partial<AttentionOptions>, code: string, message: string, kShape = [1, 2, 6, 8]): void {
  const rec = new ProgramRecorder("test");
  const q = rec.input("q", [1, 4, 5, 8], "f32");
  const k = rec.input("k", kShape, "f32");
  const v = rec.input("v", [1, 2, 6, 8], "f32");
  const options = {
    heads: 4,
    kvHeads: 2,
    headDim: 8,
    batch: 1,
    queryLength: 5,
    keyLength: 6,
    layout: "bhtd",
    ...given,
  } as const;
  try {
    attention(rec, { q, k, v }, options);
  } catch (error) {
    if (isHeedError(error) && error.code === code && error.message.includes(message)) return;
    throw new Error(`expected ${code} with "${message}"; got ${error}`);
  }
  throw new Error(`nothing was thrown; expected ${code} with "${message}"`);
}

const SOFTMAX_CASE: Partial<Problem> = { B: 2, H: 4, Hkv: 2, T: 37, S: 50, D: 64 };

/** All of a kernel's lengths about its tile, with what a mask can be. */
async function checkTiles(
  device: Device,
  seed: number,
  tile: number,
  given: Partial<Problem>,
  kernel: AttentionOptions["kernel"],
): Promise<void> {
  const random = createRandom(seed);
  for (const T of [1, tile - 1, tile, tile + 1]) {
    const B = 2;
    const lengths = { keyLengths: [T + 3, T] };
    await checkFused(
      device,
      random,
      problem({ B, H: 2, T, S: T + 3, causal: true, queryStart: 3, ...lengths, ...given }),
      kernel,
    );
  }
}

export const cases = opCases("attention", (add) => {
  add("matches the reference on a plain case", (device) => checkFused(device, createRandom(1), problem(SOFTMAX_CASE)));
  add("matches the reference at lengths about its tile", (device) =>
    checkTiles(device, 2, attentionQueryTile(device.facts), { D: 8 }, undefined),
  );
  for (const D of [1, 8, 36, 80, 128, 256]) {
    add(`matches the reference at D=${D}, causal`, (device) =>
      checkFused(device, createRandom(3 + D), problem({ H: 4, Hkv: 1, T: 34, D, causal: true, keyLengths: [34] })),
    );
  }
  add("gives 0 and lse −1e30 where a sequence has no keys, on rows", (device) =>
    checkFused(device, createRandom(4), problem({ B: 3, T: 9, S: 20, D: 16, layout: "rows", keyLengths: [0, 20, 1] })),
  );
  add("gives 0 in rows before the first kept key", (device) =>
    checkFused(device, createRandom(5), problem({ B: 1, T: 40, S: 20, window: 4, keyLengths: [20] })),
  );
  add("keeps logits of ±1e4 exact", (device) =>
    checkFused(
      device,
      createRandom(6),
      problem({ B: 1, T: 33, D: 16, size: 50, scale: 1, causal: true, keyLengths: [33] }),
    ),
  );
  add("reads f16, aligned and not", async (device) => {
    await checkFused(
      device,
      createRandom(7),
      problem({ B: 2, T: 18, S: 41, D: 32, dtype: "f16", layout: "rows", keyLengths: [41, 40] }),
    );
    await checkFused(device, createRandom(8), problem({ T: 5, D: 9, dtype: "f16", layout: "rows", keyLengths: [5] }));
  });
  add("splits long keys of single queries", (device) =>
    checkFused(
      device,
      createRandom(9),
      problem({ B: 2, H: 4, Hkv: 2, T: 1, S: 1030, D: 20, keyLengths: [1030, 7], queryStart: 1029, causal: true }),
    ),
  );
  add("matches the reference with tiles in workgroup memory, D=20 and 64", async (device) => {
    await checkTiles(device, 10, 64, { D: 20 }, "tiled");
    await checkTiles(device, 11, 64, { D: 64, H: 4, Hkv: 2, T: 70, window: 30 }, "tiled");
  });
  add("matches the reference with tiles in workgroup memory, D=128, Dv=96", (device) =>
    checkFused(device, createRandom(12), problem({ B: 2, T: 70, S: 81, D: 128, Dv: 96, keyLengths: [0, 80] }), "tiled"),
  );
  add("matches the reference on 15 drawn specifications", async (device) => {
    const seed = { core: 100, subgroups: 101, f16: 102, full: 103 }[device.facts.tier];
    const random = createRandom(seed);
    for (let i = 0; i < 15; i++)
      await checkFused(device, random, drawProblem(random), random.pick([undefined, "decode", "lanes"]));
  });
  add("rejects what it cannot do, by name", async () => {
    checkRejected(
      { kvHeads: 3 },
      "SHAPE",
      "attention: H must be a multiple of Hkv; got q [1, 4, 5, 8] f32, k [1, 2, 6, 8] f32",
    );
    checkRejected({ headDim: 300 }, "SHAPE", "attention: D must be from 1 to 256");
    checkRejected(
      {},
      "SHAPE",
      "attention: k must be [B, H, T, D] = [1, 2, 6, 8] f32 or f16; got k [1, 2, 7, 8] f32",
      [1, 2, 7, 8],
    );
    checkRejected({ layout: "rows" }, "SHAPE", "attention: q must be [B·T, H·D] = [5, 32]");
    checkRejected({ window: 0 }, "USAGE", "attention: window must be a whole number of keys from 1; got 0");
    checkRejected({ queryStart: -1 }, "USAGE", "attention: queryStart must be a key position from 0; got -1");
    checkRejected({ scale: Number.NaN }, "USAGE", "attention: scale must be finite; got NaN");
    checkRejected(
      { softcaps: 5 } as Partial<AttentionOptions>,
      "UNSUPPORTED",
      'attention: there is no option "softcaps"',
    );
    checkRejected({ softcap: -5 }, "USAGE", "softcap must be positive; got -5");
    checkRejected(
      { window: { left: -1 } },
      "USAGE",
      "window.left and window.right must be whole numbers from 0; got -1",
    );
    checkRejected({ prefix: 1.5 }, "USAGE", "attention: prefix must be a key position from 0; got 1.5");
    checkRejected(
      { selection: "sparse" } as unknown as Partial<AttentionOptions>,
      "UNSUPPORTED",
      'selection must be "soft" or "hard"; got "sparse"',
    );
    checkRejected(
      { kernel: "tiled", headDim: 8, valueDim: 200 },
      "UNSUPPORTED",
      "attention: the tiled kernel takes D and Dv up to 128; got 200",
    );
  });
});
