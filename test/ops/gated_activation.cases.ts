import type { Device } from "../../src/gpu/device.ts";
import { gatedActivation } from "../../src/ops/gated_activation.ts";
import { runOps } from "../../src/program/run_ops.ts";
import type { ActivationName } from "../../src/reference/activation.ts";
import { gatedActivationBackward, gatedActivation as reference } from "../../src/reference/gated_activation.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, backwardOf, f32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

/** Columns [from, to) of every row of `[N, C]`. */
function columns(x: ArrayLike<number>, C: number, from: number, to: number): Float64Array {
  return Float64Array.from(x).filter((_, i) => i % C >= from && i % C < to);
}

async function check(device: Device, kind: ActivationName, N: number, F: number, scale = 1): Promise<void> {
  const random = createRandom(N * 100 + F);
  const [x, dout] = [random.normals(N * 2 * F, scale), random.normals(N * F)];
  const { out, dx } = await runOps(device, { x: f32([N, 2 * F], x), dout: f32([N, F], dout) }, (rec, v) => {
    const value = gatedActivation(rec, v.x, kind);
    return { out: value, dx: backwardOf(rec, [v.dout], ["x"])["x"]! };
  });
  const [gate, up] = [columns(x, 2 * F, 0, F), columns(x, 2 * F, F, 2 * F)];
  assertClose(out!, reference(kind, gate, up), { ...tolerance("f32"), label: `${kind} [${N}, ${F}]`, shape: [N, F] });
  const { dgate, dup } = gatedActivationBackward(kind, gate, up, dout);
  assertClose(columns(dx!, 2 * F, 0, F), dgate, { ...gradientTolerance(dgate), label: "dgate" });
  assertClose(columns(dx!, 2 * F, F, 2 * F), dup, { ...gradientTolerance(dup), label: "dup" });
}

export const cases = opCases("gated_activation", (add) => {
  add("silu and gelu_tanh match the reference, gradients too (control)", async (device) => {
    await check(device, "silu", 3, 32);
    await check(device, "gelu_tanh", 2, 7);
  });
  add("matches the reference at F=1, 63, 64, 65 and N=1, 5", async (device) => {
    for (const [N, F] of [
      [1, 1],
      [5, 63],
      [1, 64],
      [5, 65],
    ] as const)
      await check(device, "silu", N, F);
  });
  add("matches the reference at inputs of ±1e4", (device) => check(device, "silu", 2, 16, 1e4));
  add("refuses an odd number of columns", (device) =>
    assertShapeError(
      () =>
        runOps(device, { x: f32([1, 7], new Float32Array(7)) }, (rec, v) => ({
          out: gatedActivation(rec, v.x, "silu"),
        })),
      "gated_activation: x must be [N, 2F], gate then up; got x [1, 7] f32.",
    ),
  );
});
