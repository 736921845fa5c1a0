import type { Device } from "../../src/gpu/device.ts";
import { dropout } from "../../src/ops/dropout.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { dropout as reference } from "../../src/reference/dropout.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, backwardOf, f32, u32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";

const ROUNDED = { atol: 0, rtol: 2 ** -22 };

async function check(device: Device, N: number, C: number, rate: number): Promise<void> {
  const random = createRandom(N + C);
  const [x, dout] = [random.normals(N * C), random.normals(N * C)];
  const inputs = { x: f32([N, C], x), dout: f32([N, C], dout), rng: u32([3], [0x89abcdef, 0x01234567, 42]) };
  const got = await runOps(device, inputs, (rec, v) => {
    // Two ops before it: the mask depends on the place in the record.
    const slice = sliceColumns(rec, sliceColumns(rec, v.x, 0, C), 0, C);
    const out = dropout(rec, slice, { rate, rng: v.rng });
    return { out, dx: backwardOf(rec, [v.dout], ["x"])["x"]! };
  });
  const options = { p: rate, seed: [0x89abcdef, 0x01234567] as const, opId: 2, step: 42 };
  assertClose(got["out"]!, reference(x, options), { ...ROUNDED, label: `[${N}, ${C}] rate ${rate}`, shape: [N, C] });
  assertClose(got["dx"]!, reference(dout, options), {
    ...ROUNDED,
    label: `gradient [${N}, ${C}] rate ${rate}`,
    shape: [N, C],
  });
}

export const cases = opCases("dropout", (add) => {
  add("draws the reference's mask, and the same for the gradient (control)", (device) => check(device, 5, 64, 0.1));
  add("draws it at sizes that are no multiple of four, and at rates 0 and 0.9", async (device) => {
    for (const [N, C, rate] of [
      [1, 1, 0.5],
      [3, 7, 0.9],
      [2, 33, 0],
      [70, 5, 0.3],
    ] as const)
      await check(device, N, C, rate);
  });
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
