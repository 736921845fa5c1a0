import { everyNthRow } from "../../src/ops/every_nth_row.ts";
import { linear } from "../../src/ops/linear.ts";
import { POOLINGS, type Pooling, poolRows } from "../../src/ops/pool_rows.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { poolRowsBackward, poolRows as reference } from "../../src/reference/pool_rows.ts";
import { assertShapeError, backwardOf, f32, u32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

interface Sizes {
  T: number;
  C: number;
  lengths: readonly number[];
  mode: Pooling;
  scale?: number;
}

/** Forward and backward; x is the middle of a wider matrix. */
function spec({ T, C, lengths, mode, scale = 1 }: Sizes): OpSpec {
  const B = lengths.length;
  const random = createRandom(T + C + B);
  const wide = random.normals(B * T * (C + 3), scale);
  const x = Float64Array.from({ length: B * T * C }, (_, i) => wide[Math.floor(i / C) * (C + 3) + 2 + (i % C)]!);
  const dout = random.normals(B * C);
  const dx = poolRowsBackward(x, lengths, dout, { B, T, C, mode });
  const atol = tolerance("f32").atol * scale;
  return {
    label: JSON.stringify({ T, C, lengths, mode, scale }),
    inputs: { wide: f32([B * T, C + 3], wide), lengths: u32([B], lengths), dout: f32([B, C], dout) },
    record(rec, { wide, lengths, dout }) {
      const out = poolRows(rec, { x: sliceColumns(rec, wide!, 2, C), lengths: lengths! }, mode);
      return { out, dx: backwardOf(rec, [dout!], ["x"])["x"]! };
    },
    expected: {
      out: { values: reference(x, lengths, { B, T, C, mode }), close: { ...tolerance("f32"), atol, shape: [B, C] } },
      dx: { values: dx, close: { ...gradientTolerance(dx), shape: [B * T, C] } },
    },
  };
}

export const cases = opCases("pool_rows", (add) => {
  add(
    "matches the reference in every mode, forward and backward, with sequences of 0, 1 and all rows (control)",
    (device) =>
      checkSpecs(
        device,
        POOLINGS.map((mode) => spec({ T: 5, C: 7, lengths: [3, 5, 1, 0], mode })),
      ),
  );
  add("keeps values of ±1e4 apart", (device) =>
    checkSpecs(
      device,
      POOLINGS.map((mode) => spec({ T: 9, C: 4, lengths: [9, 2], mode, scale: 1e4 })),
    ),
  );
  add("matches in 40 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(31, 40, (random) => {
        const T = random.int(1, 33);
        const lengths = Array.from({ length: random.int(1, 6) }, () => random.int(0, T));
        return spec({ T, C: random.int(1, 70), lengths, mode: random.pick(POOLINGS) });
      }),
    ),
  );
  add("takes every n-th row as a view that a linear layer reads, and gives its gradient to those rows", (device) => {
    const random = createRandom(4);
    const [x, weight, dout] = [random.normals(6 * 4), random.normals(5 * 4), random.normals(2 * 4)];
    const out = [0, 3].flatMap((n) =>
      Array.from({ length: 5 }, (_, m) => [0, 1, 2, 3].reduce((s, k) => s + x[n * 4 + k]! * weight[m * 4 + k]!, 0)),
    );
    const dx = Float64Array.from({ length: 24 }, (_, i) =>
      Math.floor(i / 4) % 3 === 0 ? dout[Math.floor(i / 12) * 4 + (i % 4)]! : 0,
    );
    return checkSpecs(device, [
      {
        label: "rows 0 and 3 of 6",
        inputs: { x: f32([6, 4], x), weight: f32([5, 4], weight), dout: f32([2, 4], dout) },
        record(rec, { x, weight, dout }) {
          const rows = everyNthRow(rec, x!, 3);
          const dx = backwardOf(rec, [dout!], ["x"])["x"]!;
          return { out: linear(rec, rows, weight!), dx };
        },
        expected: { out: { values: out, close: tolerance("f32") }, dx: { values: dx, close: tolerance("f32") } },
      },
    ]);
  });
  add("refuses rows that the batch does not divide, and lengths of another size", async (device) => {
    const inputs = { x: f32([5, 2], new Float32Array(10)), lengths: u32([2], [1, 1]) };
    await assertShapeError(
      () => runOps(device, inputs, (rec, v) => ({ out: poolRows(rec, { x: v.x, lengths: v.lengths }, "mean") })),
      "pool_rows: x must be [B·T, C]; got x [5, 2] f32, B 2.",
    );
    await assertShapeError(
      () => runOps(device, inputs, (rec, v) => ({ out: everyNthRow(rec, v.x, 3) })),
      "every_nth_row: N must be a multiple of n; got x [5, 2] f32, n 3.",
    );
  });
});
