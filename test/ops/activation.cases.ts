import { activation } from "../../src/ops/activation.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { type ActivationName, activationBackward, activation as reference } from "../../src/reference/activation.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, backwardOf, f32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

const KINDS: readonly ActivationName[] = ["gelu", "gelu_tanh", "relu", "silu", "sigmoid", "tanh"];
const SPECIAL = [0, -0, 1e-8, -1e-8, 1, -1, 5.5, -5.5, 12, -12, 40, -40, 90, -90, 1e4, -1e4].map(Math.fround);
const WIDE = Array.from({ length: 401 }, (_, i) => Math.fround((i - 200) / 25));

function spec(kind: ActivationName, N: number, x: Float64Array): OpSpec {
  const C = x.length / N;
  const dout = createRandom(7).normals(x.length);
  const dx = activationBackward(kind, x, dout);
  // Where every derivative is next to 0, as far out on tanh, it still errs by a few roundings of 1.
  const atol = Math.max(gradientTolerance(dx).atol, tolerance("f32").atol);
  return {
    label: `${kind} [${N}, ${C}]`,
    inputs: { x: f32([N, C], x), dout: f32([N, C], dout) },
    record(rec, { x, dout }) {
      const out = activation(rec, x!, kind);
      return { out, dx: backwardOf(rec, [dout!], ["x"])["x"]! };
    },
    expected: {
      out: { values: reference(kind, x), close: { ...tolerance("f32"), shape: [N, C] } },
      dx: { values: dx, close: { ...gradientTolerance(dx), atol, shape: [N, C] } },
    },
  };
}

export const cases = opCases("activation", (add) => {
  for (const kind of KINDS) {
    add(`${kind} and its gradient match the reference, at ±1e4 too`, (device) => {
      const random = createRandom(3);
      return checkSpecs(device, [
        spec(kind, 1, Float64Array.from([...SPECIAL, ...WIDE])),
        spec(kind, 9, random.normals(63, 3)),
        spec(kind, 1, random.normals(1)),
      ]);
    });
  }
  add("all match the reference in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(31, 50, (random) => {
        const [N, C] = [random.int(1, 20), random.int(1, 100)];
        return spec(random.pick(KINDS), N, random.normals(N * C, 10 ** random.int(-2, 4)));
      }),
    ),
  );
  add("exact gelu errs by less than 1e-6", async (device) => {
    const x = Float64Array.from({ length: 2001 }, (_, i) => Math.fround((i - 1000) / 200));
    const inputs = { x: f32([1, x.length], x) };
    const { out } = await runOps(device, inputs, (rec, v) => ({ out: activation(rec, v.x, "gelu") }));
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
