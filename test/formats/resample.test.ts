import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { resample } from "../../src/formats/resample.ts";
import { readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";

interface Row {
  from: number;
  to: number;
  x: number[];
  y: number[];
}

const ROWS = readJson<Row[]>(fileURLToPath(new URL("../fixtures/resample_expected.json", import.meta.url)));

describe("resample", () => {
  it.each(ROWS)("from $from to $to is scipy's", ({ from, to, x, y }) => {
    assertClose(resample(Float32Array.from(x), from, to), y, { atol: 1e-6, rtol: 1e-6 });
  });

  it("keeps sound at its own rate, and takes rates whose filter is not kept", () => {
    const x = Float32Array.from({ length: 300 }, (_, i) => Math.sin((2 * Math.PI * 300 * i) / 16_001));
    expect(resample(x, 16_000, 16_000)).toBe(x);
    const odd = resample(x, 99_991, 16_000);
    expect(odd).toHaveLength(Math.ceil((300 * 16_000) / 99_991));
    const near = resample(x, 100_000, 16_000);
    // Rates that differ by 1e-4 give almost the same.
    assertClose(odd.subarray(10, 40), near.subarray(10, 40), { atol: 5e-3, rtol: 0 });
  });

  it("takes away what the lower rate cannot hold", () => {
    const tone = (hertz: number) =>
      Float32Array.from({ length: 4800 }, (_, i) => Math.sin((2 * Math.PI * hertz * i) / 48_000));
    const loud = (x: Float32Array) => Math.max(...x.subarray(200, -200).map(Math.abs));
    expect(loud(resample(tone(12_000), 48_000, 16_000))).toBeLessThan(1e-3);
    expect(loud(resample(tone(2000), 48_000, 16_000))).toBeGreaterThan(0.99);
  });
});
