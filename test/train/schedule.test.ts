import { describe, expect, it } from "vitest";
import { checkSchedule, learningRateAt } from "../../src/train/schedule.ts";

describe("schedule", () => {
  it("warms up linearly and stays", () => {
    const schedule = { type: "constant", learningRate: 1, warmup: 3 } as const;
    expect([0, 1, 2, 3, 4, 99].map((done) => learningRateAt(schedule, done, 100))).toEqual([0.25, 0.5, 0.75, 1, 1, 1]);
  });

  it("falls linearly to its minimum", () => {
    const schedule = { type: "linear", learningRate: 1, minimum: 0.2, warmup: 10 } as const;
    expect(learningRateAt(schedule, 10, 110)).toBe(1);
    expect(learningRateAt(schedule, 60, 110)).toBeCloseTo(0.6, 12);
    expect(learningRateAt(schedule, 110, 110)).toBeCloseTo(0.2, 12);
  });

  it("falls along half a cosine to its minimum", () => {
    const schedule = { type: "cosine", learningRate: 1, minimum: 0.1, warmup: 100 } as const;
    expect(learningRateAt(schedule, 100, 2100)).toBe(1);
    expect(learningRateAt(schedule, 1100, 2100)).toBeCloseTo(0.55, 12);
    expect(learningRateAt(schedule, 2100, 2100)).toBeCloseTo(0.1, 12);
    expect(learningRateAt(schedule, 600, 2100)).toBeCloseTo(0.1 + 0.9 * 0.5 * (1 + Math.SQRT1_2), 12);
  });

  it("falls with the root of the step, as the paper has it", () => {
    const schedule = { type: "inverse_sqrt", learningRate: 1, warmup: 4 } as const;
    // §5.3: proportional to min(step^−½, step · warmup^−1.5).
    for (const step of [1, 2, 4, 5, 16, 400]) {
      const paper = Math.min(step ** -0.5, step * 4 ** -1.5) * 2;
      expect(learningRateAt(schedule, step - 1, 1000)).toBeCloseTo(paper, 12);
    }
  });

  it.each([
    [
      { type: "step", learningRate: 1 },
      'schedule: type must be one of constant, linear, cosine, inverse_sqrt; got "step".',
    ],
    [{ type: "cosine", learningRate: 0 }, "schedule: learningRate must be above 0; got 0."],
    [{ type: "cosine", learningRate: 1, minimum: 2 }, "schedule: minimum must lie from 0 to learningRate; got 2."],
    [{ type: "inverse_sqrt", learningRate: 1 }, "schedule: inverse_sqrt needs a warmup of at least 1 step; got 0."],
  ])("refuses %j", (schedule, message) => {
    expect(() => checkSchedule(schedule as Parameters<typeof checkSchedule>[0])).toThrow(message);
  });
});
