import { describe, expect, it } from "vitest";
import { formatProfile } from "../../src/cli/profile.ts";

describe("formatProfile", () => {
  const times = [
    { label: "a", kernel: "linear(f32,TILE=4)", elapsedMs: 1, clock: "gpu" as const },
    { label: "b", kernel: "attention_decode", elapsedMs: 1, clock: "gpu" as const },
    { label: "c", kernel: "linear(f32,TILE=4)", elapsedMs: 2, clock: "gpu" as const },
  ];

  it("adds up each kernel's dispatches, the longest first", () => {
    expect(formatProfile(times, 9)).toBe(
      [
        "One decode step at 9 tokens, each dispatch in a pass of its own: GPU time",
        "kernel            dispatches     ms   share  variant",
        "linear                     2  3.000  75.0 %  f32,TILE=4",
        "attention_decode           1  1.000  25.0 %",
        "all                        3  4.000",
      ].join("\n"),
    );
  });

  it("says so where there are no timestamps", () => {
    expect(formatProfile([{ label: "a", kernel: "linear", elapsedMs: 0, clock: "wall" }], 1)).toContain("wall time");
  });
});
