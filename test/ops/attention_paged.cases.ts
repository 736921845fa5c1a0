import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkPaged } from "./attention_paged_support.ts";

const RAGGED = [
  { keys: 70, rows: 37 },
  { keys: 1, rows: 1 },
  { keys: 33, rows: 16 },
  { keys: 5, rows: 3 },
];

export const cases = opCases("attentionPaged", (add) => {
  for (const op of ["prefill", "decode"] as const) {
    add(`${op} matches the reference on a ragged batch with grouped heads`, (device) =>
      checkPaged(device, createRandom(11), { H: 4, Hkv: 2, D: 16, maxPages: 4, sequences: RAGGED }, op));
    add(`${op} reads an f16 pool, columns of a wider q and a window`, (device) =>
      checkPaged(device, createRandom(12), { H: 2, Hkv: 2, D: 8, maxPages: 4, sequences: RAGGED, dtype: "f16", window: 20, margin: 8 }, op));
  }
  add("decode joins splits of long keys, for eight heads of one key head", (device) =>
    checkPaged(device, createRandom(13), { H: 8, Hkv: 1, D: 64, maxPages: 40, sequences: [{ keys: 1100, rows: 1 }, { keys: 30, rows: 2 }] }, "decode"));
  add("decode takes a group of three and of nine query heads", async (device) => {
    await checkPaged(device, createRandom(14), { H: 6, Hkv: 2, D: 8, maxPages: 3, sequences: [{ keys: 65, rows: 2 }] }, "decode");
    await checkPaged(device, createRandom(15), { H: 9, Hkv: 1, D: 8, maxPages: 3, sequences: [{ keys: 65, rows: 2 }] }, "decode");
  });
});
