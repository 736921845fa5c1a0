import { isHeedError } from "../../src/core/errors.ts";
import { attentionDecodePaged, attentionPaged } from "../../src/ops/attention.ts";
import { ProgramRecorder } from "../../src/program/record.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkPaged } from "./attention_paged_support.ts";

const RAGGED = [
  { keys: 70, rows: 37 },
  { keys: 1, rows: 1 },
  { keys: 33, rows: 16 },
  { keys: 5, rows: 3 },
];

interface Shapes {
  q: number[];
  kv: number[];
  rowTable: number[];
  pageTable: number[];
  tileTable: number[];
}

/** Asserts what recording a paged op on inputs of these shapes throws. */
function checkRejected(
  op: "prefill" | "decode",
  shapes: Partial<Shapes>,
  options: object,
  code: string,
  message: string,
): void {
  const rec = new ProgramRecorder("test");
  const given: Shapes = {
    q: [3, 32],
    kv: [4, 2, 2, 32, 8],
    rowTable: [3, 2],
    pageTable: [2, 2],
    tileTable: [2, 4],
    ...shapes,
  };
  const inputs = {
    q: rec.input("q", given.q, "f32"),
    kv: rec.input("kv", given.kv, "f32"),
    rowTable: rec.input("rowTable", given.rowTable, "u32"),
    pageTable: rec.input("pageTable", given.pageTable, "u32"),
    tileTable: rec.input("tileTable", given.tileTable, "u32"),
  };
  const all = { heads: 4, kvHeads: 2, headDim: 8, maxPages: 2, ...options };
  try {
    if (op === "prefill") attentionPaged(rec, inputs, all);
    else attentionDecodePaged(rec, inputs, all);
  } catch (error) {
    if (isHeedError(error) && error.code === code && error.message.includes(message)) return;
    throw new Error(`expected ${code} with "${message}"; got ${error}`);
  }
  throw new Error(`nothing was thrown; expected ${code} with "${message}"`);
}

export const cases = opCases("attentionPaged", (add) => {
  for (const op of ["prefill", "decode"] as const) {
    add(`${op} matches the reference on a ragged batch with grouped heads`, (device) =>
      checkPaged(device, createRandom(11), { H: 4, Hkv: 2, D: 16, maxPages: 4, sequences: RAGGED }, op),
    );
    add(`${op} reads an f16 pool, columns of a wider q and a window`, (device) =>
      checkPaged(
        device,
        createRandom(12),
        { H: 2, Hkv: 2, D: 8, maxPages: 4, sequences: RAGGED, dtype: "f16", window: 20, margin: 8 },
        op,
      ),
    );
  }
  for (const op of ["prefill", "decode"] as const) {
    add(`${op} reads a pool in q8_0: as the reference does the numbers that it stands for`, async (device) => {
      for (const D of [32, 64]) {
        const problem = { H: 4, Hkv: 2, D, maxPages: 4, sequences: RAGGED, dtype: "q8_0" as const };
        await checkPaged(device, createRandom(D), problem, op);
        if (op === "prefill") await checkPaged(device, createRandom(D), { ...problem, kernel: "tiled" }, op);
      }
    });
  }
  for (const op of ["prefill", "decode"] as const) {
    add(`${op} caps scores softly`, (device) =>
      checkPaged(
        device,
        createRandom(21),
        { H: 4, Hkv: 2, D: 16, maxPages: 4, sequences: RAGGED, softcap: 2.5, scale: 1.5, window: 30 },
        op,
      ),
    );
    add(`${op} adds slopes of distances (ALiBi)`, (device) =>
      checkPaged(
        device,
        createRandom(22),
        { H: 3, Hkv: 1, D: 16, maxPages: 4, sequences: RAGGED, alibiSlopes: [0.5, 0.0625, 1], softcap: 20 },
        op,
      ),
    );
    add(`${op} adds a relative position bias`, (device) =>
      checkPaged(
        device,
        createRandom(23),
        {
          ...{ H: 4, Hkv: 4, D: 16, maxPages: 4, sequences: RAGGED },
          relative: { buckets: 8, maxDistance: 20, bidirectional: false },
        },
        op,
      ),
    );
  }
  for (const kernel of ["lanes", "tiled"] as const) {
    add(`prefill sees the whole prefix of each sequence, then causally (${kernel})`, (device) =>
      checkPaged(
        device,
        createRandom(24),
        {
          ...{ H: 4, Hkv: 2, D: 16, maxPages: 4, kernel },
          sequences: [
            { keys: 70, rows: 70, prefix: 41 },
            { keys: 9, rows: 9, prefix: 9 },
            { keys: 40, rows: 40 },
            { keys: 50, rows: 10, prefix: 20 },
          ],
        },
        "prefill",
      ),
    );
  }
  add("prefill combines a prefix with a soft cap, slopes and a window", (device) =>
    checkPaged(
      device,
      createRandom(25),
      {
        ...{ H: 2, Hkv: 2, D: 16, maxPages: 4, softcap: 3, alibiSlopes: [0.25, 0.125], window: 50 },
        sequences: [{ keys: 90, rows: 90, prefix: 66 }],
      },
      "prefill",
    ),
  );
  add("decode joins splits whose scores have slopes", (device) =>
    checkPaged(
      device,
      createRandom(26),
      {
        ...{ H: 8, Hkv: 1, D: 64, maxPages: 40, alibiSlopes: Array.from({ length: 8 }, (_, i) => 2 ** -(i + 3)) },
        sequences: [
          { keys: 1100, rows: 1 },
          { keys: 30, rows: 2 },
        ],
      },
      "decode",
    ),
  );
  add("prefill matches the reference with tiles in workgroup memory", (device) =>
    checkPaged(
      device,
      createRandom(17),
      { H: 4, Hkv: 2, D: 64, maxPages: 4, sequences: RAGGED, kernel: "tiled" },
      "prefill",
    ),
  );
  add("decode joins splits of long keys, for eight heads of one key head", (device) =>
    checkPaged(
      device,
      createRandom(13),
      {
        H: 8,
        Hkv: 1,
        D: 64,
        maxPages: 40,
        sequences: [
          { keys: 1100, rows: 1 },
          { keys: 30, rows: 2 },
        ],
      },
      "decode",
    ),
  );
  add("decode takes a group of three and of nine query heads", async (device) => {
    await checkPaged(
      device,
      createRandom(14),
      { H: 6, Hkv: 2, D: 8, maxPages: 3, sequences: [{ keys: 65, rows: 2 }] },
      "decode",
    );
    await checkPaged(
      device,
      createRandom(15),
      { H: 9, Hkv: 1, D: 8, maxPages: 3, sequences: [{ keys: 65, rows: 2 }] },
      "decode",
    );
  });
  add("decode follows a window across splits and pages", (device) =>
    checkPaged(
      device,
      createRandom(16),
      {
        H: 2,
        Hkv: 1,
        D: 8,
        maxPages: 40,
        sequences: [
          { keys: 1203, rows: 3 },
          { keys: 77, rows: 1 },
        ],
        window: 190,
      },
      "decode",
    ),
  );
  add("reject what they cannot do, by name", async () => {
    checkRejected("decode", {}, { kvHeads: 3 }, "SHAPE", "attentionDecodePaged: H must be a multiple of Hkv");
    checkRejected(
      "prefill",
      { q: [3, 30] },
      {},
      "SHAPE",
      "attentionPaged: q must be [N, H·D] = [N, 32] f32; got q [3, 30] f32",
    );
    checkRejected(
      "decode",
      { kv: [4, 2, 2, 16, 8] },
      {},
      "SHAPE",
      "kv must be [pages, 2, Hkv, 32, D] = [pages, 2, 2, 32, 8]",
    );
    checkRejected(
      "decode",
      { rowTable: [2, 2] },
      {},
      "SHAPE",
      "attentionDecodePaged: rowTable must be [N, 2] u32; got rowTable [2, 2] u32",
    );
    checkRejected(
      "prefill",
      { pageTable: [2, 3] },
      {},
      "SHAPE",
      "pageTable must be [slots, maxPages] = [slots, 2] u32; got pageTable [2, 3] u32",
    );
    checkRejected("prefill", { tileTable: [2, 3] }, {}, "SHAPE", "attentionPaged: tileTable must be [tiles, 4] u32");
    checkRejected("decode", {}, { softcap: 0 }, "USAGE", "attentionDecodePaged: softcap must be positive; got 0");
    checkRejected("decode", {}, { maxSplits: 0 }, "USAGE", "maxSplits must be a whole number from 1; got 0");
    checkRejected("prefill", {}, { causal: true }, "UNSUPPORTED", 'attentionPaged: there is no option "causal"');
    checkRejected(
      "decode",
      { q: [3, 24], kv: [4, 2, 2, 32, 6] },
      { headDim: 6 },
      "UNSUPPORTED",
      "D must be a multiple of 4 in a paged cache",
    );
  });
});
