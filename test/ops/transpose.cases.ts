import { transposeInto } from "../../src/ops/transpose.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { assertShapeError } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";

export const cases = opCases("transpose", (test) => {
  for (const [title, rows, cols, maxPartBytes] of [
    ["turns a matrix", 37, 19, undefined],
    ["turns one of even sides", 16, 8, undefined],
    ["turns one row", 1, 9, undefined],
    ["turns from row parts into row parts", 50, 33, 8 * 50 * 4],
  ] as const) {
    for (const [dtype, make] of [
      ["f32", (n: number) => Float32Array.from({ length: n }, (_, i) => i + 0.5)],
      ["f16", (n: number) => Uint16Array.from({ length: n }, (_, i) => i)],
    ] as const) {
      test(`${title} (${dtype})`, async (device) => {
        const data = make(rows * cols);
        const got = await runOps(
          device,
          {
            x: { shape: [rows, cols], data, maxPartBytes },
            out: { shape: [cols, rows], data: make(rows * cols).fill(0), kind: "state", maxPartBytes },
          },
          (rec, v) => {
            transposeInto(rec, v.x, v.out);
            return { out: v.out };
          },
        );
        data.forEach((value, i) => {
          const at = (i % cols) * rows + Math.floor(i / cols);
          if (got.out?.[at] !== value) throw new Error(`out[${at}] is ${got.out?.[at]}, expected ${value}`);
        });
      });
    }
  }

  test("refuses shapes that are not each other's", (device) =>
    assertShapeError(
      () =>
        runOps(
          device,
          {
            x: { shape: [2, 3], data: new Float32Array(6) },
            out: { shape: [2, 3], data: new Float32Array(6), kind: "state" },
          },
          (rec, v) => {
            transposeInto(rec, v.x, v.out);
            return { out: v.out };
          },
        ),
      "transpose: x must be [R, C] and out [C, R] of one dtype; got x [2, 3] f32, out [2, 3] f32.",
    ));
});
