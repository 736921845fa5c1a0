import { expect, it } from "vitest";
import { type CurvePoint, curvesSvg } from "../../src/train/curves.ts";

const points = (losses: readonly number[]): CurvePoint[] => losses.map((loss, i) => ({ step: i + 1, loss }));

function labels(svg: string, anchor: "middle" | "end"): string[] {
  const found = [...svg.matchAll(new RegExp(`<text [^>]*text-anchor="${anchor}">([^<]+)<`, "g"))];
  return found.map(([, label]) => label ?? "");
}

it.each([
  [[5.684, 5.71, 5.699], 0.01],
  [[0.00012, 0.00018], 0.0001],
  [[6, 0.4], 1],
  [[2e6, 1e5], 1e6],
])("tells the ticks of losses %j apart", (losses) => {
  const ticks = labels(curvesSvg("Loss", { training: points(losses), validation: [] }), "end");
  expect(ticks.length).toBeGreaterThan(2);
  expect(new Set(ticks).size).toBe(ticks.length);
  const values = ticks.map(Number);
  expect(Math.min(...values)).toBeLessThanOrEqual(Math.min(...losses));
  expect(Math.max(...values)).toBeGreaterThanOrEqual(Math.max(...losses));
});

it("counts whole steps, however few there are", () => {
  const ticks = labels(curvesSvg("Loss", { training: points([3, 2, 1]), validation: [] }), "middle");
  expect(ticks).toEqual(["0", "1", "2", "3", "steps"]);
});

it("leaves out what is not finite, and draws very long runs", () => {
  const training = Array.from({ length: 200_000 }, (_, i) => ({ step: i + 1, loss: i === 7 ? Number.NaN : 2 }));
  const svg = curvesSvg("Loss", { training, validation: training });
  expect(svg).not.toMatch(/NaN|Infinity/);
  expect(svg.length).toBeLessThan(100_000);
});
