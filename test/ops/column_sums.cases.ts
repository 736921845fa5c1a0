import { columnSums } from "../../src/ops/column_sums.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { assertShapeError, f32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { sumTolerance } from "../support/tolerances.ts";

/** Sums columns [start, C) of x `[N, C]`, by the definition. */
function spec(N: number, C: number, start = 0): OpSpec {
  const x = createRandom(N + C).normals(N * C);
  const sums = new Float64Array(C - start);
  x.forEach((value, i) => {
    if (i % C >= start) sums[(i % C) - start] = sums[(i % C) - start]! + value;
  });
  return {
    label: `[${N}, ${C}] from ${start}`,
    inputs: { x: f32([N, C], x) },
    record: (rec, { x }) => ({ out: columnSums(rec, sliceColumns(rec, x!, start, C - start)) }),
    expected: { out: { values: sums, close: sumTolerance("f32", { K: N, maxTerm: 4 }) } },
  };
}

export const cases = opCases("column_sums", (add) => {
  add("sums the columns (control)", (device) => checkSpecs(device, [spec(5, 64)]));
  add("sums in one, two and three stages, and ranges of columns", (device) =>
    checkSpecs(device, [
      spec(1, 1),
      spec(63, 7),
      spec(64, 65),
      spec(65, 4),
      spec(4097, 8),
      spec(70, 12, 4),
      spec(9, 7, 3),
    ]),
  );
  add("sums in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(111, 50, (random) => spec(random.int(1, 200), random.int(1, 150))),
    ),
  );
  add("gives the same bits again", async (device) => {
    const x = f32([300, 20], createRandom(3).normals(6000));
    const { a, b } = await runOps(device, { x }, (rec, v) => ({ a: columnSums(rec, v.x), b: columnSums(rec, v.x) }));
    if (a!.some((value, i) => value !== b![i])) throw new Error("two runs gave different sums");
  });
  add("refuses what is no [N, C]", (device) =>
    assertShapeError(
      () => runOps(device, { x: f32([8], new Float32Array(8)) }, (rec, v) => ({ out: columnSums(rec, v.x) })),
      "column_sums: x must be [N, C] f32; got x [8] f32.",
    ),
  );
});
