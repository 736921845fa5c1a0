import { conv1d, conv1dSteps } from "../../src/ops/conv1d.ts";
import { linear } from "../../src/ops/linear.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { wholeNorm } from "../../src/ops/whole_norm.ts";
import { gradients } from "../../src/program/autodiff.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { conv1dBackward, conv1d as reference } from "../../src/reference/conv1d.ts";
import { groupNorm } from "../../src/reference/group_norm.ts";
import { assertShapeError, f32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

interface Sizes {
  B: number;
  S: number;
  Cin: number;
  M: number;
  kernel: number;
  stride: number;
  padding: number;
}

function spec(sizes: Sizes): OpSpec {
  const { B, S, Cin, M, kernel, stride, padding } = sizes;
  const T = conv1dSteps(S, sizes);
  const random = createRandom(S + Cin * M + kernel);
  const [x, weight, bias] = [random.normals(B * S * Cin), random.normals(M * Cin * kernel, 0.3), random.normals(M)];
  // The loss is the sum of out over its rows times fixed numbers, given as a linear layer of one row.
  const factors = random.normals(M);
  const dout = Float64Array.from({ length: B * T * M }, (_, i) => factors[i % M]!);
  const { dx, dweight } = conv1dBackward(x, weight, dout, sizes);
  return {
    label: JSON.stringify(sizes),
    inputs: {
      x: f32([B * S, Cin], x, "state"),
      weight: f32([M, Cin * kernel], weight, "state"),
      bias: f32([M], bias),
      factors: f32([1, M], factors),
      ones: f32([1, B * T], new Float64Array(B * T).fill(1)),
    },
    record(rec, { x, weight, bias, factors, ones }) {
      const out = conv1d(rec, x!, { weight: weight!, bias: bias! }, { batch: B, kernel, stride, padding });
      const rows = linear(rec, out, factors!); // [B·T, 1]
      const loss = matmul(rec, ones!, rows, { layout: "NN" }); // [1, 1]
      const [dx, dweight] = gradients(rec, loss, [x!, weight!]);
      return { out, dx: dx!, dweight: dweight! };
    },
    expected: {
      out: { values: reference(x, weight, bias, sizes), close: { ...tolerance("f32"), shape: [B * T, M] } },
      dx: { values: dx, close: gradientTolerance(dx) },
      dweight: { values: dweight, close: gradientTolerance(dweight) },
    },
  };
}

export const cases = opCases("conv1d", (add) => {
  add("matches the reference with its gradients (control)", (device) =>
    checkSpecs(device, [spec({ B: 2, S: 9, Cin: 3, M: 4, kernel: 3, stride: 2, padding: 1 })]),
  );
  add("matches the front ends of Moonshine and Whisper, made small", (device) =>
    checkSpecs(device, [
      spec({ B: 1, S: 400, Cin: 1, M: 5, kernel: 127, stride: 64, padding: 0 }),
      spec({ B: 1, S: 30, Cin: 6, M: 4, kernel: 7, stride: 3, padding: 0 }),
      spec({ B: 1, S: 20, Cin: 5, M: 3, kernel: 3, stride: 1, padding: 1 }),
    ]),
  );
  add("matches in 25 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(17, 25, (random) => {
        const kernel = random.int(1, 5);
        const sizes = { B: random.int(1, 3), S: random.int(kernel, 20), Cin: random.int(1, 5), M: random.int(1, 6) };
        return spec({ ...sizes, kernel, stride: random.int(1, 4), padding: random.int(0, 3) });
      }),
    ),
  );
  add("norms all rows and columns together, as group norm with one group does, with a mean of 30", (device) => {
    const random = createRandom(5);
    const [T, C, eps] = [301, 6, 1e-5];
    const x = Float64Array.from(random.normals(T * C), (v) => Math.fround(v + 30));
    const [weight, bias] = [random.normals(C), random.normals(C)];
    // The reference takes channels before rows.
    const turned = Float64Array.from({ length: T * C }, (_, i) => x[(i % T) * C + Math.floor(i / T)]!);
    const want = groupNorm(turned, weight, { N: 1, C, inner: T, groups: 1, eps, bias });
    const values = Float64Array.from({ length: T * C }, (_, i) => want[(i % C) * T + Math.floor(i / C)]!);
    return checkSpecs(device, [
      {
        label: "301 × 6",
        inputs: { x: f32([T, C], x), weight: f32([C], weight), bias: f32([C], bias) },
        record: (rec, { x, weight, bias }) => ({ out: wholeNorm(rec, x!, { weight: weight!, bias: bias! }, { eps }) }),
        expected: { out: { values, close: { atol: 5e-5, rtol: 1e-4 } } },
      },
    ]);
  });
  add("refuses fewer rows than one step sees", (device) =>
    assertShapeError(
      () =>
        runOps(device, { x: f32([4, 2], new Float32Array(8)), w: f32([3, 10], new Float32Array(30)) }, (rec, v) => ({
          out: conv1d(rec, v.x, { weight: v.w }, { batch: 1, kernel: 5 }),
        })),
      "conv1d: a sequence must have at least 5 rows with its padding; got 4 in x [4, 2] f32, kernel 5, padding 0.",
    ),
  );
});
