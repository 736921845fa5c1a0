import { rmsNorm } from "../../src/ops/rms_norm.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { rmsNorm as reference, rmsNormBackward } from "../../src/reference/rms_norm.ts";
import { assertShapeError, backwardOf, f32, GPU_VARIANT_TIERS, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

interface Sizes {
  N: number;
  C: number;
  scale?: number;
  eps?: number;
  plusOne?: boolean;
  seed?: number;
}

function forward(sizes: Sizes): OpSpec {
  const { N, C, scale = 1, eps = 1e-5, plusOne = false, seed = 1 } = sizes;
  const random = createRandom(seed);
  const [x, weight] = [random.normals(N * C, scale), random.normals(C)];
  const gain = plusOne ? weight.map((w) => 1 + w) : weight;
  return {
    label: JSON.stringify(sizes),
    inputs: { x: f32([N, C], x), weight: f32([C], weight) },
    record: (rec, { x, weight }) => ({ out: rmsNorm(rec, x!, weight!, { eps, plusOne }) }),
    expected: { out: { values: reference(x, gain, { N, C, eps }).out, close: { ...tolerance("f32"), shape: [N, C] } } },
  };
}

function backward(sizes: Sizes): OpSpec {
  const { N, C, eps = 1e-5, plusOne = false, seed = 2 } = sizes;
  const random = createRandom(seed);
  const [x, weight, dout] = [random.normals(N * C), random.normals(C), random.normals(N * C)];
  const gain = plusOne ? weight.map((w) => 1 + w) : weight;
  const { dx, dweight } = rmsNormBackward(x, gain, dout, { N, C, eps });
  return {
    label: JSON.stringify(sizes),
    inputs: { x: f32([N, C], x), weight: f32([C], weight), dout: f32([N, C], dout) },
    record(rec, { x, weight, dout }) {
      rmsNorm(rec, x!, weight!, { eps, plusOne });
      const got = backwardOf(rec, [dout!], ["x", "weight"]);
      return { dx: got["x"]!, dweight: got["weight"]! };
    },
    expected: {
      dx: { values: dx, close: { ...gradientTolerance(dx), shape: [N, C] } },
      dweight: { values: dweight, close: gradientTolerance(dweight) },
    },
  };
}

export const cases = opCases("rms_norm", (add) => {
  add("matches the reference at N=5, C=64 (control)", (device) => checkSpecs(device, [forward({ N: 5, C: 64 })]));
  add("matches the reference at C of 1 to 2,304 and N of 1 to 17, about the workgroup's sizes", (device) => {
    const sizes = [
      [1, 1],
      [7, 3],
      [8, 63],
      [9, 65],
      [1, 4],
      [17, 68],
      [1, 2304],
      [2, 256],
      [2, 257],
    ] as const;
    return checkSpecs(
      device,
      sizes.map(([N, C]) => forward({ N, C })),
    );
  });
  add("keeps its accuracy at inputs of ±1e4 and of 1e-4", (device) =>
    checkSpecs(device, [forward({ N: 3, C: 64, scale: 1e4 }), forward({ N: 3, C: 64, scale: 1e-4 })]),
  );
  add("gives 0 for a row of zeros", (device) => checkSpecs(device, [forward({ N: 2, C: 8, scale: 0 })]));
  add("adds 1 to the gain where asked", (device) =>
    checkSpecs(device, [forward({ N: 2, C: 12, plusOne: true, eps: 1e-6 })]),
  );
  add("matches the reference in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(20, 50, (random) => {
        const [N, C, scale] = [random.int(1, 40), random.int(1, 300), 10 ** random.int(-4, 4)];
        return forward({ N, C, scale, seed: random.int(0, 1e6) });
      }),
    ),
  );
  add("gradients match the reference (N=1, 5, 70, 129)", (device) => {
    const sizes = [
      { N: 1, C: 3 },
      { N: 5, C: 64 },
      { N: 70, C: 12 },
      { N: 129, C: 20 },
      { N: 5, C: 64, plusOne: true },
    ];
    return checkSpecs(device, sizes.map(backward));
  });
  add(
    "matches the reference with a workgroup a row, as GPUs run it",
    (device) =>
      withGpuVariants(device, () => {
        const sizes = [
          { N: 3, C: 65 },
          { N: 3, C: 256 },
          { N: 2, C: 2304, scale: 1e4 },
        ];
        return checkSpecs(device, [...sizes.map(forward), backward({ N: 3, C: 65 })]);
      }),
    GPU_VARIANT_TIERS,
  );
  add("refuses a gain of another width", (device) =>
    assertShapeError(
      () =>
        runOps(device, { x: f32([2, 8], new Float32Array(16)), weight: f32([7], new Float32Array(7)) }, (rec, v) => ({
          out: rmsNorm(rec, v.x, v.weight, { eps: 1e-5 }),
        })),
      "rms_norm: weight must be [C] f32 with C = 8; got weight [7] f32. Load norm weights as f32.",
    ),
  );
});
