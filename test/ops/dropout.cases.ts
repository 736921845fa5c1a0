import { dropout } from "../../src/ops/dropout.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { dropout as reference } from "../../src/reference/dropout.ts";
import { assertShapeError, backwardOf, f32, u32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";

const ROUNDED = { atol: 0, rtol: 2 ** -22 };

const SEED = [0x89abcdef, 0x01234567] as const;

function spec(N: number, C: number, rate: number): OpSpec {
  const random = createRandom(N + C);
  const [x, dout] = [random.normals(N * C), random.normals(N * C)];
  // The mask depends on the op's place in the record, which is known only once it is recorded.
  const options = { p: rate, seed: SEED, opId: 0, step: 42 };
  const close = { ...ROUNDED, shape: [N, C] };
  const expected = {
    get out() {
      return { values: reference(x, options), close };
    },
    get dx() {
      return { values: reference(dout, options), close };
    },
  };
  return {
    label: `[${N}, ${C}] rate ${rate}`,
    inputs: { x: f32([N, C], x), dout: f32([N, C], dout), rng: u32([3], [...SEED, 42]) },
    record(rec, { x, dout, rng }) {
      const slice = sliceColumns(rec, x!, 0, C);
      options.opId = rec.nodes.length;
      const out = dropout(rec, slice, { rate, rng: rng! });
      return { out, dx: backwardOf(rec, [dout!], ["x"])["x"]! };
    },
    expected,
  };
}

export const cases = opCases("dropout", (add) => {
  add("draws the reference's mask, and the same for the gradient (control)", (device) =>
    checkSpecs(device, [spec(5, 64, 0.1)]),
  );
  add("draws it at sizes that are no multiple of four, and at rates 0 and 0.9", (device) =>
    checkSpecs(device, [spec(1, 1, 0.5), spec(3, 7, 0.9), spec(2, 33, 0), spec(70, 5, 0.3)]),
  );
  add("draws it in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(81, 50, (random) => spec(random.int(1, 20), random.int(1, 60), random.int(0, 9) / 10)),
    ),
  );
  add("refuses a rate of 1", (device) =>
    assertShapeError(
      () =>
        runOps(device, { x: f32([1, 4], new Float32Array(4)), rng: u32([3], [0, 0, 0]) }, (rec, v) => ({
          out: dropout(rec, v.x, { rate: 1, rng: v.rng }),
        })),
      "dropout: rate must be in [0, 1); got 1.",
    ),
  );
});
