import { rmsNorm } from "../../src/ops/rms_norm.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
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
  heads?: number;
  scale?: number;
  eps?: number;
  plusOne?: boolean;
  seed?: number;
}

function forward(sizes: Sizes): OpSpec {
  const { N, C, heads = 1, scale = 1, eps = 1e-5, plusOne = false, seed = 1 } = sizes;
  const random = createRandom(seed);
  const [x, weight] = [random.normals(N * C, scale), random.normals(C / heads)];
  const gain = plusOne ? weight.map((w) => 1 + w) : weight;
  return {
    label: JSON.stringify(sizes),
    inputs: { x: f32([N, C], x), weight: f32([C / heads], weight) },
    record: (rec, { x, weight }) => ({ out: rmsNorm(rec, x!, weight!, { eps, plusOne, heads }) }),
    // A head is a row of its own.
    expected: {
      out: {
        values: reference(x, gain, { N: N * heads, C: C / heads, eps }).out,
        close: { ...tolerance("f32"), shape: [N, C] },
      },
    },
  };
}

function backward(sizes: Sizes): OpSpec {
  const { N, C, heads = 1, eps = 1e-5, plusOne = false, seed = 2 } = sizes;
  const random = createRandom(seed);
  const [x, weight, dout] = [random.normals(N * C), random.normals(C / heads), random.normals(N * C)];
  const gain = plusOne ? weight.map((w) => 1 + w) : weight;
  const { dx, dweight } = rmsNormBackward(x, gain, dout, { N: N * heads, C: C / heads, eps });
  return {
    label: JSON.stringify(sizes),
    inputs: { x: f32([N, C], x), weight: f32([C / heads], weight), dout: f32([N, C], dout) },
    record(rec, { x, weight, dout }) {
      rmsNorm(rec, x!, weight!, { eps, plusOne, heads });
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
  add("norms each head by itself, of rows and of columns of a wider matrix", (device) => {
    const { N, C, heads, eps } = { N: 5, C: 48, heads: 3, eps: 1e-5 };
    const random = createRandom(7);
    const [wide, weight] = [random.normals(N * 64), random.normals(C / heads)];
    const x = Float64Array.from({ length: N * C }, (_, i) => wide[Math.floor(i / C) * 64 + 8 + (i % C)]!);
    const columns: OpSpec = {
      label: "columns 8 to 56 of 64",
      inputs: { wide: f32([N, 64], wide), weight: f32([C / heads], weight) },
      record: (rec, { wide, weight }) => ({
        out: rmsNorm(rec, sliceColumns(rec, wide!, 8, C), weight!, { eps, heads }),
      }),
      expected: {
        out: { values: reference(x, weight, { N: N * heads, C: C / heads, eps }).out, close: tolerance("f32") },
      },
    };
    return checkSpecs(device, [columns, forward({ N: 1, C: 6, heads: 2 }), forward({ N: 70, C: 64, heads: 4 })]);
  });
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
      { N: 5, C: 64, heads: 4 },
      { N: 9, C: 15, heads: 3 },
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
          { N: 3, C: 64, heads: 4 },
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
  add("refuses heads that do not divide the row", (device) =>
    assertShapeError(
      () =>
        runOps(device, { x: f32([2, 8], new Float32Array(16)), weight: f32([2], new Float32Array(2)) }, (rec, v) => ({
          out: rmsNorm(rec, v.x, v.weight, { eps: 1e-5, heads: 3 }),
        })),
      "rms_norm: C must be a multiple of heads; got x [2, 8] f32, heads 3.",
    ),
  );
});
