import type { Device } from "../../src/gpu/device.ts";
import { activation } from "../../src/ops/activation.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { type ActivationName, activationBackward, activation as reference } from "../../src/reference/activation.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, backwardOf, f32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

const KINDS: readonly ActivationName[] = ["gelu", "gelu_tanh", "relu", "silu", "sigmoid", "tanh"];
const SPECIAL = [0, -0, 1e-8, -1e-8, 1, -1, 5.5, -5.5, 12, -12, 40, -40, 90, -90, 1e4, -1e4];

async function check(device: Device, kind: ActivationName, x: Float64Array, N: number): Promise<void> {
  const C = x.length / N;
  const dout = createRandom(7).normals(x.length);
  const { out, dx } = await runOps(device, { x: f32([N, C], x), dout: f32([N, C], dout) }, (rec, v) => {
    const value = activation(rec, v.x, kind);
    return { out: value, dx: backwardOf(rec, [v.dout], ["x"])["x"]! };
  });
  assertClose(out!, reference(kind, x), { ...tolerance("f32"), label: `${kind} [${N}, ${C}]` });
  const expected = activationBackward(kind, x, dout);
  assertClose(dx!, expected, { ...gradientTolerance(expected), label: `${kind} gradient [${N}, ${C}]` });
}

export const cases = opCases("activation", (add) => {
  for (const kind of KINDS) {
    add(`${kind} and its gradient match the reference, at ±1e4 too`, async (device) => {
      const random = createRandom(3);
      const wide = Float64Array.from({ length: 401 }, (_, i) => Math.fround((i - 200) / 25));
      await check(device, kind, Float64Array.from([...SPECIAL.map(Math.fround), ...wide]), 1);
      await check(device, kind, random.normals(63, 3), 9);
      await check(device, kind, random.normals(1), 1);
    });
  }
  add("exact gelu errs by less than 1e-6", async (device) => {
    const x = Float64Array.from({ length: 2001 }, (_, i) => Math.fround((i - 1000) / 200));
    const { out } = await runOps(device, { x: f32([1, x.length], x) }, (rec, v) => ({
      out: activation(rec, v.x, "gelu"),
    }));
    assertClose(out!, reference("gelu", x), { atol: 1e-6, rtol: 1e-6 });
  });
  add("reads a range of columns", async (device) => {
    const x = createRandom(5).normals(30);
    const { out } = await runOps(device, { x: f32([3, 10], x) }, (rec, v) => ({
      out: activation(rec, sliceColumns(rec, v.x, 2, 7), "relu"),
    }));
    const part = [0, 1, 2].flatMap((n) => Array.from(x.subarray(n * 10 + 2, n * 10 + 9)));
    assertClose(out!, reference("relu", Float64Array.from(part)), { atol: 0, rtol: 0 });
  });
  add("refuses what is no [N, C]", (device) =>
    assertShapeError(
      () => runOps(device, { x: f32([8], new Float32Array(8)) }, (rec, v) => ({ out: activation(rec, v.x, "silu") })),
      "activation: x must be [N, C] f32; got x [8] f32.",
    ),
  );
});
