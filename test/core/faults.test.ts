import * as v from "valibot";
import { describe, expect, it } from "vitest";
import { describeFaults } from "../../src/core/faults.ts";

const schema = v.strictObject({
  steps: v.pipe(v.number(), v.integer(), v.minValue(1)),
  kind: v.picklist(["a", "b"]),
  deep: v.optional(v.object({ width: v.number() })),
});

const faults = (value: unknown) => {
  const { issues } = v.safeParse(schema, value);
  return issues ? describeFaults(issues, "recipe") : "";
};

describe("describeFaults", () => {
  it.each([
    [{ kind: "a" }, "steps is missing"],
    [{ steps: "5", kind: "a" }, 'steps must be number, got "5"'],
    [{ steps: 1.5, kind: "a" }, "steps must be a whole number, got 1.5"],
    [{ steps: 0, kind: "a" }, "steps must be >=1, got 0"],
    [{ steps: 1, kind: "c" }, 'kind must be ("a" | "b"), got "c"'],
    [{ steps: 1, kind: "a", deep: {} }, "deep.width is missing"],
    [{ steps: 1, kind: "a", more: 2 }, "more is not known"],
    [{ steps: 0, kind: 3 }, 'steps must be >=1, got 0; kind must be ("a" | "b"), got 3'],
    [[], "steps is missing; kind is missing"],
    ["text", 'recipe must be Object, got "text"'],
  ])("words %j", (value, expected) => {
    expect(faults(value)).toBe(expected);
  });
});
