import { override } from "../../src/ops/override.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, f32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";

const ROUNDED_TWICE = { atol: 1e-6, rtol: 2 ** -22 };

export const cases = opCases("override", (add) => {
  add("scales and adds, element by element, in shapes of one to four dimensions", async (device) => {
    for (const shape of [[7], [5, 65], [3, 4, 5], [1, 2, 9, 9]]) {
      const count = shape.reduce((product, d) => product * d, 1);
      const random = createRandom(count);
      const [x, factor, shift] = [random.normals(count), random.normals(count), random.normals(count)];
      const inputs = { x: f32(shape, x), factor: f32(shape, factor), shift: f32(shape, shift) };
      const { out } = await runOps(device, inputs, (rec, v) => ({ out: override(rec, v.x, v) }));
      assertClose(
        out!,
        x.map((value, i) => factor[i]! * value + shift[i]!),
        { ...ROUNDED_TWICE, shape },
      );
    }
  });
  add("leaves the same bits with factor 1, and replaces what is no number with factor 0", async (device) => {
    const x = createRandom(1).normals(6);
    const broken = x.map((value, i) => (i === 2 ? Number.NaN : value));
    const factor = [1, 1, 0, 1, 0, 1];
    const shift = [0, 0, 5, 0, -7, 0];
    const inputs = { x: f32([2, 3], broken), factor: f32([2, 3], factor), shift: f32([2, 3], shift) };
    const { out } = await runOps(device, inputs, (rec, v) => ({ out: override(rec, v.x, v) }));
    assertClose(out!, [x[0]!, x[1]!, 5, x[3]!, -7, x[5]!], { atol: 0, rtol: 0 });
  });
  add("takes columns of a wider matrix", async (device) => {
    const x = createRandom(2).normals(4 * 10);
    const inputs = {
      x: f32([4, 10], x),
      factor: f32([4, 3], Array(12).fill(2)),
      shift: f32([4, 3], Array(12).fill(1)),
    };
    const { out } = await runOps(device, inputs, (rec, v) => ({ out: override(rec, sliceColumns(rec, v.x, 6, 3), v) }));
    const expected = [0, 1, 2, 3].flatMap((n) => [6, 7, 8].map((c) => 2 * x[n * 10 + c]! + 1));
    assertClose(out!, expected, ROUNDED_TWICE);
  });
  add("changes every row alike by one row, also of columns of a wider matrix", async (device) => {
    const x = createRandom(3).normals(4 * 10);
    const inputs = { x: f32([4, 10], x), factor: f32([3], [2, 0, -1]), shift: f32([3], [1, 5, 0]) };
    const { out } = await runOps(device, inputs, (rec, v) => ({ out: override(rec, sliceColumns(rec, v.x, 6, 3), v) }));
    const expected = [0, 1, 2, 3].flatMap((n) => [2 * x[n * 10 + 6]! + 1, 5, -x[n * 10 + 8]!]);
    assertClose(out!, expected, ROUNDED_TWICE);
  });
  add("refuses a change of another shape", (device) =>
    assertShapeError(
      () =>
        runOps(device, { x: f32([2, 3], Array(6).fill(0)), y: f32([3, 2], Array(6).fill(0)) }, (rec, v) => ({
          out: override(rec, v.x, { factor: v.x, shift: v.y }),
        })),
      "override: x must be f32, factor and shift f32 of its shape or both of one row; got x [2, 3] f32, x [2, 3] f32, y [3, 2] f32.",
    ),
  );
});
