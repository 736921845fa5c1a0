import { add as addRows, scale } from "../../src/ops/add.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { residual } from "../../src/reference/residual.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, backwardOf, f32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";

const ROUNDED_ONCE = { atol: 0, rtol: 2 ** -23 };
const EXACT = { atol: 0, rtol: 0 };

function spec(shape: readonly number[], size = 1): OpSpec {
  const random = createRandom(shape.length);
  const count = shape.reduce((product, d) => product * d, 1);
  const [a, b] = [random.normals(count, size), random.normals(count, size)];
  return {
    label: `[${shape.join(", ")}]`,
    inputs: { a: f32(shape, a), b: f32(shape, b) },
    record: (rec, { a, b }) => ({ out: addRows(rec, a!, b!) }),
    expected: { out: { values: residual(a, b), close: { ...ROUNDED_ONCE, shape } } },
  };
}

export const cases = opCases("add", (add) => {
  add("adds two rows of tokens (control)", (device) => checkSpecs(device, [spec([5, 64])]));
  add("adds shapes of one to three dimensions, odd sizes and ±1e4", (device) =>
    checkSpecs(
      device,
      [[1], [7], [1, 1], [9, 65], [3, 5, 7], [2, 3, 4]].map((shape) => spec(shape, 1e4)),
    ),
  );
  add("adds in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(51, 50, (random) => spec([random.int(1, 30), random.int(1, 200)])),
    ),
  );
  add("adds ranges of columns", async (device) => {
    const x = createRandom(1).normals(3 * 12);
    const { out, odd } = await runOps(device, { x: f32([3, 12], x) }, (rec, v) => ({
      out: addRows(rec, sliceColumns(rec, v.x, 0, 4), sliceColumns(rec, v.x, 8, 4)),
      odd: addRows(rec, sliceColumns(rec, v.x, 1, 3), sliceColumns(rec, sliceColumns(rec, v.x, 4, 8), 2, 3)),
    }));
    const sum = (left: number, right: number, count: number) =>
      [0, 1, 2].flatMap((n) => Array.from({ length: count }, (_, c) => x[n * 12 + left + c]! + x[n * 12 + right + c]!));
    assertClose(out!, sum(0, 8, 4), ROUNDED_ONCE);
    assertClose(odd!, sum(1, 6, 3), ROUNDED_ONCE);
  });
  add("passes its gradient on to both; scales, and scales the gradient", async (device) => {
    const x = createRandom(2).normals(10);
    const got = await runOps(device, { x: f32([2, 5], x), y: f32([2, 5], x) }, (rec, v) => {
      const scaled = scale(rec, v.x, 0.5);
      const dscaled = backwardOf(rec, [v.x], ["a"])["a"]!;
      addRows(rec, v.x, v.y);
      const { a, b } = backwardOf(rec, [scaled], ["a", "b"]);
      return { scaled, dscaled, da: scale(rec, a!, 1), db: scale(rec, b!, 1) };
    });
    const half = x.map((value) => value / 2);
    for (const name of ["scaled", "dscaled", "da", "db"]) assertClose(got[name]!, half, { ...EXACT, label: name });
  });
  add("refuses two shapes", (device) =>
    assertShapeError(
      () =>
        runOps(device, { a: f32([2, 3], new Float32Array(6)), b: f32([3, 2], new Float32Array(6)) }, (rec, v) => ({
          out: addRows(rec, v.a, v.b),
        })),
      "add: a and b must be f32 of one shape; got a [2, 3] f32, b [3, 2] f32.",
    ),
  );
});
