import type { Device } from "../../src/gpu/device.ts";
import { layerNorm } from "../../src/ops/layer_norm.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { layerNorm as reference, layerNormBackward } from "../../src/reference/layer_norm.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, backwardOf, f32, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

interface Spec {
  N: number;
  C: number;
  scale?: number;
  /** Added to every x. */
  shift?: number;
  bias?: boolean;
  seed?: number;
}

const EPS = 1e-5;

async function check(device: Device, { N, C, scale = 1, shift = 0, bias = true, seed = 1 }: Spec): Promise<void> {
  const random = createRandom(seed);
  const x = random.normals(N * C, scale).map((v) => Math.fround(v + shift));
  const [weight, b] = [random.normals(C), random.normals(C)];
  const inputs = { x: f32([N, C], x), weight: f32([C], weight), bias: f32([C], b) };
  const { out } = await runOps(device, inputs, (rec, v) => ({
    out: layerNorm(rec, v.x, v.weight, bias ? v.bias : undefined, { eps: EPS }),
  }));
  const expected = reference(x, weight, { N, C, eps: EPS, bias: bias ? b : undefined });
  const label = `N=${N} C=${C} scale=${scale} shift=${shift}`;
  // The mean errs by a few units in the last place of x; over the row's deviation that is an error of x̂.
  const atol = Math.max(tolerance("f32").atol, (4 * 2 ** -24 * Math.abs(shift)) / scale);
  assertClose(out!, expected.out, { ...tolerance("f32"), atol, label, shape: [N, C], context: `seed ${seed}` });
}

async function checkBackward(device: Device, { N, C }: Spec): Promise<void> {
  const random = createRandom(N * 1000 + C);
  const [x, weight, dout] = [random.normals(N * C), random.normals(C), random.normals(N * C)];
  const inputs = { x: f32([N, C], x), weight: f32([C], weight), bias: f32([C], weight), dout: f32([N, C], dout) };
  const got = await runOps(device, inputs, (rec, v) => {
    layerNorm(rec, v.x, v.weight, v.bias, { eps: EPS });
    return backwardOf(rec, [v.dout], ["x", "weight", "bias"]);
  });
  const expected = layerNormBackward(x, weight, dout, { N, C, eps: EPS });
  assertClose(got["x"]!, expected.dx, { ...gradientTolerance(expected.dx), label: `dx N=${N} C=${C}`, shape: [N, C] });
  assertClose(got["weight"]!, expected.dweight, {
    ...gradientTolerance(expected.dweight),
    label: `dweight N=${N} C=${C}`,
  });
  assertClose(got["bias"]!, expected.dbias, { ...gradientTolerance(expected.dbias), label: `dbias N=${N} C=${C}` });
}

export const cases = opCases("layer_norm", (add) => {
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
  add("keeps its accuracy at inputs of ±1e4 and at a mean of 1e4", async (device) => {
    await check(device, { N: 3, C: 64, scale: 1e4 });
    await check(device, { N: 3, C: 64, shift: 1e4 });
  });
  add("gives the bias for a constant row", async (device) => {
    const gain = f32([8], [1, 2, 3, 4, 5, 6, 7, 8]);
    const { out } = await runOps(device, { x: f32([2, 8], new Float32Array(16).fill(3)), gain }, (rec, v) => ({
      out: layerNorm(rec, v.x, v.gain, v.gain, { eps: EPS }),
    }));
    assertClose(out!, [...gain.data, ...gain.data], { atol: 0, rtol: 0 });
  });
  add("leaves the bias out where there is none", (device) => check(device, { N: 2, C: 12, bias: false }));
  add("matches the reference in 20 drawn shapes", async (device) => {
    const random = createRandom(20);
    for (let i = 0; i < 20; i++) {
      const spec = { N: random.int(1, 40), C: random.int(1, 300), scale: 10 ** random.int(-2, 4), seed: 100 + i };
      await check(device, spec);
    }
  });
  add("matches the reference with a workgroup a row", (device) =>
    withGpuVariants(device, async () => {
      await check(device, { N: 3, C: 65 });
      await check(device, { N: 3, C: 256 });
      await check(device, { N: 2, C: 2304, shift: 100 });
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
  });
  add("refuses a bias of another width and an x of another rank", async (device) => {
    const inputs = {
      x: f32([2, 8], new Float32Array(16)),
      gain: f32([8], new Float32Array(8)),
      bias: f32([7], new Float32Array(7)),
    };
    await assertShapeError(
      () => runOps(device, inputs, (rec, v) => ({ out: layerNorm(rec, v.x, v.gain, v.bias, { eps: EPS }) })),
      "layer_norm: bias must be [C] f32 with C = 8; got bias [7] f32. Load norm weights as f32.",
    );
    await assertShapeError(
      () => runOps(device, inputs, (rec, v) => ({ out: layerNorm(rec, v.gain, v.gain, undefined, { eps: EPS }) })),
      "layer_norm: x must be [N, C] f32; got x [8] f32.",
    );
  });
});
