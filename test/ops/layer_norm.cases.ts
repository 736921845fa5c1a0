import { layerNorm } from "../../src/ops/layer_norm.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { layerNormBackward, layerNorm as reference } from "../../src/reference/layer_norm.ts";
import { assertShapeError, backwardOf, f32, GPU_VARIANT_TIERS, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

const EPS = 1e-5;

interface Sizes {
  N: number;
  C: number;
  scale?: number;
  /** Added to every x. */
  shift?: number;
  biased?: boolean;
  seed?: number;
}

function forward(sizes: Sizes): OpSpec {
  const { N, C, scale = 1, shift = 0, biased = true, seed = 1 } = sizes;
  const random = createRandom(seed);
  const x = random.normals(N * C, scale).map((v) => Math.fround(v + shift));
  const [weight, bias] = [random.normals(C), random.normals(C)];
  const { out } = reference(x, weight, { N, C, eps: EPS, bias: biased ? bias : undefined });
  // The mean errs by a few units in the last place of x; over the row's deviation that is an error of x̂.
  const atol = Math.max(tolerance("f32").atol, scale === 0 ? 0 : (4 * 2 ** -24 * Math.abs(shift)) / scale);
  return {
    label: JSON.stringify(sizes),
    inputs: { x: f32([N, C], x), weight: f32([C], weight), bias: f32([C], bias) },
    record: (rec, { x, weight, bias }) => ({
      out: layerNorm(rec, x!, weight!, biased ? bias : undefined, { eps: EPS }),
    }),
    expected: { out: { values: out, close: { ...tolerance("f32"), atol, shape: [N, C] } } },
  };
}

function backward(sizes: Sizes): OpSpec {
  const { N, C, seed = 2 } = sizes;
  const random = createRandom(seed);
  const [x, weight, dout] = [random.normals(N * C), random.normals(C), random.normals(N * C)];
  const { dx, dweight, dbias } = layerNormBackward(x, weight, dout, { N, C, eps: EPS });
  return {
    label: JSON.stringify(sizes),
    inputs: { x: f32([N, C], x), weight: f32([C], weight), dout: f32([N, C], dout) },
    record(rec, { x, weight, dout }) {
      layerNorm(rec, x!, weight!, weight!, { eps: EPS });
      const got = backwardOf(rec, [dout!], ["x", "weight", "bias"]);
      return { dx: got["x"]!, dweight: got["weight"]!, dbias: got["bias"]! };
    },
    expected: {
      dx: { values: dx, close: { ...gradientTolerance(dx), shape: [N, C] } },
      dweight: { values: dweight, close: gradientTolerance(dweight) },
      dbias: { values: dbias, close: gradientTolerance(dbias) },
    },
  };
}

export const cases = opCases("layer_norm", (add) => {
  add("matches the reference at N=5, C=64 (control)", (device) => checkSpecs(device, [forward({ N: 5, C: 64 })]));
  add("matches the reference at C of 2 to 2,304 and N of 1 to 17, about the workgroup's sizes", (device) => {
    const sizes = [
      [1, 2],
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
  add("keeps its accuracy at inputs of ±1e4 and at a mean of 1e4", (device) =>
    checkSpecs(device, [forward({ N: 3, C: 64, scale: 1e4 }), forward({ N: 3, C: 64, shift: 1e4 })]),
  );
  add("gives the bias for a constant row and for C=1, and nothing where there is none", (device) =>
    checkSpecs(device, [
      forward({ N: 2, C: 8, scale: 0, shift: 3 }),
      forward({ N: 3, C: 1 }),
      forward({ N: 2, C: 12, biased: false }),
    ]),
  );
  add("matches the reference in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(20, 50, (random) => {
        const [N, C, scale] = [random.int(1, 40), random.int(2, 300), 10 ** random.int(-2, 4)];
        return forward({ N, C, scale, shift: random.int(-9, 9) * scale, seed: random.int(0, 1e6) });
      }),
    ),
  );
  add("gradients match the reference (N=1, 5, 70, 129)", (device) => {
    const sizes = [
      { N: 1, C: 3 },
      { N: 5, C: 64 },
      { N: 70, C: 12 },
      { N: 129, C: 20 },
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
          { N: 2, C: 2304, shift: 100 },
        ];
        return checkSpecs(device, [...sizes.map(forward), backward({ N: 3, C: 65 })]);
      }),
    GPU_VARIANT_TIERS,
  );
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
