import type { Device } from "../../src/gpu/device.ts";
import { rmsNorm } from "../../src/ops/rms_norm.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { rmsNorm as reference, rmsNormBackward } from "../../src/reference/rms_norm.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, backwardOf, f32, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

interface Spec {
  N: number;
  C: number;
  scale?: number;
  eps?: number;
  plusOne?: boolean;
  seed?: number;
}

async function check(device: Device, { N, C, scale = 1, eps = 1e-5, plusOne = false, seed = 1 }: Spec): Promise<void> {
  const random = createRandom(seed);
  const x = random.normals(N * C, scale);
  const weight = random.normals(C);
  const gain = plusOne ? weight.map((w) => 1 + w) : weight;
  const { out } = await runOps(device, { x: f32([N, C], x), weight: f32([C], weight) }, (rec, v) => ({
    out: rmsNorm(rec, v.x, v.weight, { eps, plusOne }),
  }));
  const expected = reference(x, gain, { N, C, eps });
  assertClose(out!, expected.out, {
    ...tolerance("f32"),
    label: `N=${N} C=${C} scale=${scale}`,
    shape: [N, C],
    context: `seed ${seed}`,
  });
}

async function checkBackward(device: Device, { N, C, eps = 1e-5, plusOne = false }: Spec): Promise<void> {
  const random = createRandom(N * 1000 + C);
  const [x, weight, dout] = [random.normals(N * C), random.normals(C), random.normals(N * C)];
  const gain = plusOne ? weight.map((w) => 1 + w) : weight;
  const inputs = { x: f32([N, C], x), weight: f32([C], weight), dout: f32([N, C], dout) };
  const got = await runOps(device, inputs, (rec, v) => {
    rmsNorm(rec, v.x, v.weight, { eps, plusOne });
    return backwardOf(rec, [v.dout], ["x", "weight"]);
  });
  const expected = rmsNormBackward(x, gain, dout, { N, C, eps });
  assertClose(got["x"]!, expected.dx, { ...gradientTolerance(expected.dx), label: `dx N=${N} C=${C}`, shape: [N, C] });
  assertClose(got["weight"]!, expected.dweight, {
    ...gradientTolerance(expected.dweight),
    label: `dweight N=${N} C=${C}`,
  });
}

export const cases = opCases("rms_norm", (add) => {
  add("matches the reference at N=5, C=64 (control)", (device) => check(device, { N: 5, C: 64 }));
  add("matches the reference at C=1, 3, 63, 65 and N=1, 7, 8, 9", async (device) => {
    for (const [N, C] of [
      [1, 1],
      [7, 3],
      [8, 63],
      [9, 65],
    ] as const)
      await check(device, { N, C });
  });
  add("matches the reference at C=4, 68, 2304 and N=1, 17", async (device) => {
    for (const [N, C] of [
      [1, 4],
      [17, 68],
      [1, 2304],
    ] as const)
      await check(device, { N, C });
  });
  add("keeps its accuracy at inputs of ±1e4 and of 1e-4", async (device) => {
    await check(device, { N: 3, C: 64, scale: 1e4 });
    await check(device, { N: 3, C: 64, scale: 1e-4 });
  });
  add("gives 0 for a row of zeros", async (device) => {
    const { out } = await runOps(
      device,
      { x: f32([2, 8], new Float32Array(16)), weight: f32([8], [1, 2, 3, 4, 5, 6, 7, 8]) },
      (rec, v) => ({
        out: rmsNorm(rec, v.x, v.weight, { eps: 1e-6 }),
      }),
    );
    assertClose(out!, new Float32Array(16), { atol: 0, rtol: 0 });
  });
  add("adds 1 to the gain where asked", (device) => check(device, { N: 2, C: 12, plusOne: true, eps: 1e-6 }));
  add("matches the reference in 20 drawn shapes", async (device) => {
    const random = createRandom(20);
    for (let i = 0; i < 20; i++) {
      const spec = { N: random.int(1, 40), C: random.int(1, 300), scale: 10 ** random.int(-4, 4), seed: 100 + i };
      await check(device, spec);
    }
  });
  add("matches the reference with a workgroup a row", (device) =>
    withGpuVariants(device, async () => {
      await check(device, { N: 3, C: 65 });
      await check(device, { N: 3, C: 256 });
      await check(device, { N: 2, C: 2304, scale: 1e4 });
      await checkBackward(device, { N: 3, C: 65 });
    }),
  );
  add("gradients match the reference (N=1, 5, 70, 129)", async (device) => {
    for (const [N, C] of [
      [1, 3],
      [5, 64],
      [70, 12],
      [129, 20],
    ] as const)
      await checkBackward(device, { N, C });
    await checkBackward(device, { N: 5, C: 64, plusOne: true });
  });
  add("refuses a gain of another width", async (device) => {
    await assertShapeError(
      () =>
        runOps(device, { x: f32([2, 8], new Float32Array(16)), weight: f32([7], new Float32Array(7)) }, (rec, v) => ({
          out: rmsNorm(rec, v.x, v.weight, { eps: 1e-5 }),
        })),
      "rms_norm: weight must be [C] f32 with C = 8; got weight [7] f32. Load norm weights as f32.",
    );
  });
});
