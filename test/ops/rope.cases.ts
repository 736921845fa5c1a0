import { rope, ropeTable } from "../../src/ops/rope.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { rope as reference, ropeBackward, ropeInverseFrequencies } from "../../src/reference/rope.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, backwardOf, f32, u32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { tolerance } from "../support/tolerances.ts";

const INACTIVE = 0xffffffff;

interface Spec {
  N: number;
  H: number;
  D: number;
  R?: number;
  interleaved?: boolean;
  /** Largest position. */
  last?: number;
  seed?: number;
  rowTable?: boolean;
}

function turn(sizes: Spec): OpSpec {
  const { N, H, D, R = D, interleaved = false, last = 40, seed = 1, rowTable = false } = sizes;
  const random = createRandom(seed);
  const [x, dout] = [random.normals(N * H * D), random.normals(N * H * D)];
  const positions = random.ints(N, 0, last);
  positions[0] = last;
  const inverseFrequencies = ropeInverseFrequencies(10000, R);
  const angles = ropeTable({ maxPositions: last + 1, inverseFrequencies, factor: 1.25 });
  const rows = Array.from(positions).flatMap((position, n) => [n, position]);
  const form = interleaved ? ("interleaved" as const) : ("half" as const);
  const options = { N, H, D, form, positions, inverseFrequencies, factor: 1.25 };
  const close = { ...tolerance("f32"), shape: [N, H, D] };
  return {
    label: JSON.stringify(sizes),
    inputs: {
      x: f32([N, H * D], x),
      positions: rowTable ? u32([N, 2], rows) : u32([N], positions),
      table: f32([last + 1, R / 2, 2], angles),
      dout: f32([N, H * D], dout),
    },
    record(rec, { x, positions, table, dout }) {
      const attrs = { heads: H, headDim: D, rotaryDim: R, interleaved };
      const out = rope(rec, x!, positions!, { ...attrs, table: table! });
      return { out, dx: backwardOf(rec, [dout!], ["x"])["x"]! };
    },
    expected: { out: { values: reference(x, options), close }, dx: { values: ropeBackward(dout, options), close } },
  };
}

export const cases = opCases("rope", (add) => {
  add("turns halves and interleaved pairs, and back for the gradient (control)", (device) =>
    checkSpecs(device, [turn({ N: 5, H: 3, D: 16 }), turn({ N: 5, H: 3, D: 16, interleaved: true })]),
  );
  add("leaves channels from rotaryDim on as they are", (device) =>
    checkSpecs(device, [turn({ N: 3, H: 2, D: 20, R: 8 }), turn({ N: 3, H: 2, D: 20, R: 6, interleaved: true })]),
  );
  add("keeps its accuracy at position 100,000", (device) =>
    checkSpecs(device, [turn({ N: 2, H: 1, D: 4, last: 100_000 })]),
  );
  add("matches the reference in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(11, 50, (random) => {
        const D = 2 * random.int(1, 40);
        const R = 2 * random.int(1, D / 2);
        const [interleaved, rowTable] = [random.pick([true, false]), random.pick([true, false])];
        return turn({
          N: random.int(1, 20),
          H: random.int(1, 5),
          D,
          R,
          interleaved,
          rowTable,
          seed: random.int(0, 1e6),
        });
      }),
    ),
  );
  add("reads positions from a row table and a range of columns; inactive rows give 0", async (device) => {
    const x = createRandom(9).normals(2 * 10);
    const table = ropeTable({ maxPositions: 9, inverseFrequencies: [1, 0.1] });
    const inputs = { x: f32([2, 10], x), rows: u32([2, 2], [3, 8, INACTIVE, 5]), table: f32([9, 2, 2], table) };
    const { out } = await runOps(device, inputs, (rec, v) => ({
      out: rope(rec, sliceColumns(rec, v.x, 5, 4), v.rows, {
        heads: 1,
        headDim: 4,
        rotaryDim: 4,
        interleaved: false,
        table: v.table,
      }),
    }));
    const options = { N: 1, H: 1, D: 4, form: "half" as const, positions: [8], inverseFrequencies: [1, 0.1] };
    assertClose(out!, [...reference(x.slice(5, 9), options), 0, 0, 0, 0], tolerance("f32"));
  });
  add("refuses a table of another width and too many rotary channels", async (device) => {
    const inputs = {
      x: f32([1, 8], new Float32Array(8)),
      positions: u32([1], [0]),
      table: f32([1, 2, 2], [1, 0, 1, 0]),
    };
    const run = (rotaryDim: number) =>
      runOps(device, inputs, (rec, v) => ({
        out: rope(rec, v.x, v.positions, { heads: 2, headDim: 4, rotaryDim, interleaved: false, table: v.table }),
      }));
    await assertShapeError(
      () => run(2),
      "rope: table must be [maxPositions, 1, 2] f32; got table [1, 2, 2] f32. Make it with ropeTable().",
    );
    await assertShapeError(
      () => run(6),
      "rope: rotaryDim must be even and at most headDim; got x [1, 8] f32, heads 2, headDim 4, rotaryDim 6.",
    );
  });
});
