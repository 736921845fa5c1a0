import { concatColumns } from "../../src/ops/concat_columns.ts";
import { placeColumns, sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, backwardOf, f32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";

const EXACT = { atol: 0, rtol: 0 };

/** Columns [start, start + count) of every row of `[N, C]`. */
function columns(x: Float64Array, C: number, start: number, count: number): number[] {
  return Array.from(x).filter((_, i) => i % C >= start && i % C < start + count);
}

export const cases = opCases("slice_columns", (add) => {
  add("puts ranges of columns side by side, views of views too", async (device) => {
    const x = createRandom(1).normals(5 * 9);
    const { out } = await runOps(device, { x: f32([5, 9], x) }, (rec, v) => {
      const inner = sliceColumns(rec, sliceColumns(rec, v.x, 2, 6), 1, 3);
      return { out: concatColumns(rec, [inner, sliceColumns(rec, v.x, 0, 1), v.x]) };
    });
    const rows = [0, 1, 2, 3, 4].flatMap((n) => {
      const row = Array.from(x.subarray(n * 9, n * 9 + 9));
      return [...row.slice(3, 6), ...row.slice(0, 1), ...row];
    });
    assertClose(out!, rows, EXACT);
  });
  add("its gradient puts the columns back among zeros; that of a concatenation is its ranges", async (device) => {
    const random = createRandom(2);
    const [x, dout, both] = [random.normals(3 * 7), random.normals(3 * 2), random.normals(3 * 9)];
    const inputs = { x: f32([3, 7], x), dout: f32([3, 2], dout), both: f32([3, 9], both) };
    const got = await runOps(device, inputs, (rec, v) => {
      sliceColumns(rec, v.x, 4, 2);
      const placed = backwardOf(rec, [v.dout], ["x"])["x"]!;
      concatColumns(rec, [v.dout, v.x]);
      const parts = backwardOf(rec, [v.both], ["x0", "x1"]);
      return { placed, first: concatColumns(rec, [parts["x0"]!]), second: concatColumns(rec, [parts["x1"]!]) };
    });
    const placed = Float64Array.from({ length: 21 }, (_, i) =>
      i % 7 === 4 || i % 7 === 5 ? dout[Math.floor(i / 7) * 2 + (i % 7) - 4]! : 0,
    );
    assertClose(got["placed"]!, placed, EXACT);
    assertClose(got["first"]!, columns(both, 9, 0, 2), EXACT);
    assertClose(got["second"]!, columns(both, 9, 2, 7), EXACT);
  });
  add("refuses ranges that do not fit", async (device) => {
    const inputs = { x: f32([2, 8], new Float32Array(16)) };
    await assertShapeError(
      () => runOps(device, inputs, (rec, v) => ({ out: sliceColumns(rec, v.x, 6, 3) })),
      "slice_columns: 0 ≤ start < start + count ≤ C; got x [2, 8] f32, start 6, count 3.",
    );
    await assertShapeError(
      () => runOps(device, inputs, (rec, v) => ({ out: placeColumns(rec, v.x, 1, 8) })),
      "place_columns: 0 ≤ start and start + C ≤ columns; got x [2, 8] f32, start 1, columns 8.",
    );
  });
});
