import type { Device } from "../../src/gpu/device.ts";
import { sgdStep } from "../../src/ops/sgd.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { sgdStep as reference } from "../../src/reference/sgd.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, f32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { tolerance } from "../support/tolerances.ts";

async function check(device: Device, shape: readonly number[], momentum: number, maxPartBytes?: number): Promise<void> {
  const random = createRandom(4);
  const count = shape.reduce((a, b) => a * b, 1);
  const [param, grad] = [random.normals(count), random.normals(count)];
  const inputs = {
    param: { ...f32(shape, param, "state"), maxPartBytes },
    velocity: { ...f32(shape, new Float32Array(count), "state"), maxPartBytes },
    grad: f32(shape, grad),
    lr: f32([1], [0.25]),
  };
  const options = { momentum, weightDecay: 0.1 };
  const got = await runOps(device, inputs, (rec, v) => {
    for (let step = 0; step < 3; step++) sgdStep(rec, momentum === 0 ? { ...v, velocity: undefined } : v, options);
    return { param: v.param };
  });
  const state = { param: param.slice(), buffer: momentum === 0 ? undefined : new Float64Array(count) };
  for (let step = 0; step < 3; step++) reference(state, grad, { lr: 0.25, ...options });
  assertClose(got["param"]!, state.param, { ...tolerance("f32"), label: `[${shape.join(", ")}] momentum ${momentum}` });
}

export const cases = opCases("sgd", (add) => {
  add("three steps match the reference, without and with momentum", async (device) => {
    await check(device, [5, 7], 0);
    await check(device, [65], 0.9);
  });
  add("steps a parameter in several parts", (device) => check(device, [40, 4], 0.9, 256));
  add("clips by the norm, and leaves everything as it is where the norm is not finite", async (device) => {
    for (const [norm, factor] of [
      [4, 0.25],
      [Number.POSITIVE_INFINITY, 0],
      [Number.NaN, 0],
    ] as const) {
      const inputs = {
        param: f32([3], [1, 2, 3], "state"),
        velocity: f32([3], [0, 0, 0], "state"),
        grad: f32([3], [1, -1, 2]),
        lr: f32([1], [0.5]),
        norm: f32([1], [norm]),
      };
      const got = await runOps(device, inputs, (rec, v) => {
        sgdStep(rec, v, { momentum: 0.9, maxNorm: 1 });
        return { param: v.param, velocity: v.velocity };
      });
      const label = `norm ${norm}`;
      assertClose(got["velocity"]!, [factor, -factor, 2 * factor], { ...tolerance("f32"), label });
      assertClose(got["param"]!, [1 - 0.5 * factor, 2 + 0.5 * factor, 3 - factor], { ...tolerance("f32"), label });
    }
  });
  add("refuses a gradient of another shape", (device) =>
    assertShapeError(
      () =>
        runOps(device, { param: f32([2], [0, 0], "state"), grad: f32([3], [0, 0, 0]), lr: f32([1], [1]) }, (rec, v) => {
          sgdStep(rec, v);
          return { param: v.param };
        }),
      "sgd: param, grad and velocity must be f32 of one shape; got param [2] f32, grad [3] f32.",
    ),
  );
});
