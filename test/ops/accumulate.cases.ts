import type { Device } from "../../src/gpu/device.ts";
import { accumulate } from "../../src/ops/accumulate.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, f32, u32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { tolerance } from "../support/tolerances.ts";

async function check(device: Device, shape: readonly number[], fresh: number, maxPartBytes?: number): Promise<void> {
  const random = createRandom(6);
  const count = shape.reduce((a, b) => a * b, 1);
  const [sum, addend] = [random.normals(count), random.normals(count)];
  if (fresh !== 0) sum[0] = Number.NaN;
  const got = await runOps(
    device,
    { sum: { ...f32(shape, sum, "state"), maxPartBytes }, addend: f32(shape, addend), fresh: u32([1], [fresh]) },
    (rec, v) => {
      accumulate(rec, v);
      return { sum: v.sum };
    },
  );
  const expected = addend.map((x, i) => (fresh === 0 ? x + (sum[i] as number) : x));
  assertClose(got["sum"] as Float32Array, expected, {
    ...tolerance("f32"),
    label: `[${shape.join(", ")}] fresh ${fresh}`,
  });
}

export const cases = opCases("accumulate", (add) => {
  add("adds to the sum", (device) => check(device, [5, 13], 0));
  add("begins a new sum, whatever the old one holds", (device) => check(device, [65], 1));
  add("adds to a sum in several parts", (device) => check(device, [40, 4], 0, 256));
  add("refuses an addend of another shape", (device) =>
    assertShapeError(
      () =>
        runOps(
          device,
          { sum: f32([2], [0, 0], "state"), addend: f32([3], [0, 0, 0]), fresh: u32([1], [0]) },
          (rec, v) => {
            accumulate(rec, v);
            return { sum: v.sum };
          },
        ),
      "accumulate: sum and addend must be f32 of one shape; got sum [2] f32, addend [3] f32.",
    ),
  );
});
