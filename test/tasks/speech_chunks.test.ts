import { describe, expect, it } from "vitest";
import { createRandom } from "../support/random.ts";
import { cutAtSilences } from "../../src/tasks/speech_chunks.ts";

const RATE = 1000;

/** Noise of `seconds`, silent within the given stretches. */
function sound(seconds: number, silences: readonly (readonly [number, number])[]): Float32Array {
  const random = createRandom(8);
  return Float32Array.from({ length: seconds * RATE }, (_, i) => {
    const silent = silences.some(([from, to]) => i >= from * RATE && i < to * RATE);
    return silent ? 0 : random.normal();
  });
}

describe("cutAtSilences", () => {
  it("leaves what is short whole", () => {
    expect(cutAtSilences(sound(10, []), RATE, 10)).toEqual([{ from: 0, to: 10_000 }]);
  });

  it("cuts in silences, loses nothing and makes no chunk too long", () => {
    const silences = [
      [7, 7.5],
      [13, 13.4],
      [21, 21.5],
    ] as const;
    const chunks = cutAtSilences(sound(26, silences), RATE, 10);
    expect(chunks[0]?.from).toBe(0);
    expect(chunks.at(-1)?.to).toBe(26_000);
    chunks.forEach(({ from, to }, i) => {
      expect(to - from).toBeLessThanOrEqual(10_000);
      if (i === 0) return;
      expect(from).toBe(chunks[i - 1]?.to);
      expect(silences.some(([a, b]) => from >= a * RATE && from <= b * RATE)).toBe(true);
    });
  });

  it("cuts sound without a silence all the same", () => {
    const chunks = cutAtSilences(sound(25, []), RATE, 10);
    expect(chunks.length).toBeGreaterThanOrEqual(3);
    expect(chunks.reduce((sum, { from, to }) => sum + to - from, 0)).toBe(25_000);
  });
});
