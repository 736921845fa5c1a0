import { describe, expect, it } from "vitest";
import { placedRuns } from "../../src/models/placed_runs.ts";

describe("rows of fused heads", () => {
  // Two heads of three parts of 4 bytes: byte i of block (head, part) is head·100 + part·10 + i.
  const file = Uint8Array.from(
    [0, 1].flatMap((head) => [0, 1, 2].flatMap((part) => [0, 1, 2, 3].map((i) => head * 100 + part * 10 + i))),
  );
  const apart = Uint8Array.from(
    [0, 1, 2].flatMap((part) => [0, 1].flatMap((head) => [0, 1, 2, 3].map((i) => head * 100 + part * 10 + i))),
  );

  it.each([24, 12, 8, 4, 2, 7])("go to their places when they come in chunks of %i bytes", (chunk) => {
    const got = new Uint8Array(24);
    for (let at = 0; at < 24; at += chunk) {
      const runs = placedRuns({ heads: 2, parts: 3 }, 24, at, file.slice(at, at + chunk));
      for (const run of runs) got.set(run.data, run.at);
    }
    expect(got).toEqual(apart);
  });

  it("stay as they are without the rule", () => {
    expect([...placedRuns(undefined, 24, 8, file.slice(8, 20))]).toEqual([{ at: 8, data: file.slice(8, 20) }]);
  });
});
