import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { argmax, drawToken, sampleDistribution, type SampleOptions } from "../../src/reference/sample.ts";
import { readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { createRandom } from "../support/random.ts";

interface Case {
  options: SampleOptions;
  previous: number[];
  logits: number[];
  probs: number[];
}

const CASES = readJson<Case[]>(fileURLToPath(new URL("../fixtures/sampling.json", import.meta.url)));

describe("sampleDistribution", () => {
  it.each(CASES)("equals transformers with $options", ({ options, previous, logits, probs }) => {
    const actual = sampleDistribution(Float64Array.from(logits), { ...options, previous });
    assertClose(actual, probs, { atol: 1e-12, rtol: 1e-9, label: JSON.stringify(options) });
    expect(actual.map((p) => (p === 0 ? 0 : 1))).toEqual(Float64Array.from(probs, (p) => (p === 0 ? 0 : 1)));
  });

  it("keeps all that tie with the k-th, and takes ties of top-p in the order of ids", () => {
    const logits = Float64Array.of(1, 2, 1, 1);
    expect([...sampleDistribution(logits, { topK: 2 })].every((p) => p > 0)).toBe(true);
    const { length } = sampleDistribution(Float64Array.of(0, 0, 0, 0), { topP: 0.5 }).filter((p) => p > 0);
    expect(length).toBe(2);
    expect([...sampleDistribution(Float64Array.of(0, 0, 0, 0), { topP: 0.5 })]).toEqual([0.5, 0.5, 0, 0]);
  });
});

describe("drawToken", () => {
  it("inverts the running sum over the order of ids, and never draws a token of probability 0", () => {
    const probs = Float64Array.of(0, 0.25, 0.5, 0, 0.25, 0);
    expect([0, 0.2499, 0.25, 0.7499, 0.75, 0.999999].map((u) => drawToken(probs, u))).toEqual([1, 1, 2, 2, 4, 4]);
    expect(drawToken(Float64Array.of(0.5, 0.5 - 1e-17, 0), 1 - 2 ** -53)).toBe(1);
  });

  it("draws each token as often as its probability says", () => {
    const random = createRandom(12);
    const counts = [0, 0, 0];
    for (let i = 0; i < 30_000; i++) counts[drawToken(Float64Array.of(0.2, 0.3, 0.5), random.uniform())]! += 1;
    assertClose(
      counts.map((n) => n / 30_000),
      [0.2, 0.3, 0.5],
      { atol: 0.01, rtol: 0 },
    );
  });
});

describe("argmax", () => {
  it("takes the lowest id on a tie", () => {
    expect(argmax([-5, -1, -1])).toBe(1);
    expect(argmax([-5])).toBe(0);
  });
});
