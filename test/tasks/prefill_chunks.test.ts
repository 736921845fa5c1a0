import { expect, it } from "vitest";
import { chunkRows } from "../../src/tasks/prefill_chunks.ts";

function chunks(tokens: number, software: boolean): number[] {
  const rows: number[] = [];
  for (let left = tokens; left > 0; left -= rows.at(-1)!) rows.push(chunkRows(left, software));
  return rows;
}

it("takes one chunk where the prompt fills it", () => {
  for (const software of [true, false]) for (const n of [8, 32, 128, 512]) expect(chunks(n, software)).toEqual([n]);
  for (const software of [true, false]) expect(chunks(127, software)).toEqual([128]);
  for (const software of [true, false]) expect(chunks(1, software)).toEqual([8]);
});

it("leaves rows empty rather than read the weights again, on a GPU", () => {
  expect(chunks(9, false)).toEqual([32]);
  expect(chunks(65, false)).toEqual([128]);
  expect(chunks(33, false)).toEqual([32, 8]);
  expect(chunks(600, false)).toEqual([512, 128]);
});

it("reads the weights again rather than compute empty rows, on a CPU", () => {
  expect(chunks(9, true)).toEqual([8, 8]);
  expect(chunks(65, true)).toEqual([32, 32, 8]);
  expect(chunks(90, true)).toEqual([32, 32, 32]);
  expect(chunks(120, true)).toEqual([128]);
});

it("covers every length without a chunk too many", () => {
  for (const software of [true, false]) {
    for (let n = 1; n <= 1200; n++) {
      const rows = chunks(n, software);
      const sum = rows.reduce((a, b) => a + b, 0);
      expect(sum).toBeGreaterThanOrEqual(n);
      expect(sum - (rows.at(-1) ?? 0)).toBeLessThan(n);
    }
  }
});
