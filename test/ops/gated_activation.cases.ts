import { gatedActivation } from "../../src/ops/gated_activation.ts";
import { concatColumns } from "../../src/ops/concat_columns.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import type { ActivationName } from "../../src/reference/activation.ts";
import { gatedActivationBackward, gatedActivation as reference } from "../../src/reference/gated_activation.ts";
import { assertShapeError, backwardOf, f32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

/** Columns [from, to) of every row of `[N, C]`. */
function columns(x: Float64Array, C: number, from: number, to: number): Float64Array {
  return x.filter((_, i) => i % C >= from && i % C < to);
}

function spec(kind: ActivationName, N: number, F: number, scale = 1): OpSpec {
  const random = createRandom(N * 100 + F);
  const [x, dout] = [random.normals(N * 2 * F, scale), random.normals(N * F)];
  const [gate, up] = [columns(x, 2 * F, 0, F), columns(x, 2 * F, F, 2 * F)];
  const { dgate, dup } = gatedActivationBackward(kind, gate, up, dout);
  // The activation errs by 1e-5 at most, and up multiplies that.
  const atol = tolerance("f32").atol * up.reduce((max, v) => Math.max(max, Math.abs(v)), 1);
  const gradient = (g: Float64Array) => ({ ...gradientTolerance(g), atol: Math.max(gradientTolerance(g).atol, atol) });
  return {
    label: `${kind} [${N}, ${F}] scale ${scale}`,
    inputs: { x: f32([N, 2 * F], x), dout: f32([N, F], dout) },
    record(rec, { x, dout }) {
      const out = gatedActivation(rec, x!, kind);
      const dx = backwardOf(rec, [dout!], ["x"])["x"]!;
      const half = (start: number) => concatColumns(rec, [sliceColumns(rec, dx, start, F)]);
      return { out, dgate: half(0), dup: half(F) };
    },
    expected: {
      out: { values: reference(kind, gate, up), close: { ...tolerance("f32"), atol, shape: [N, F] } },
      dgate: { values: dgate, close: { ...gradient(dgate), shape: [N, F] } },
      dup: { values: dup, close: { ...gradient(dup), shape: [N, F] } },
    },
  };
}

export const cases = opCases("gated_activation", (add) => {
  add("silu and gelu_tanh match the reference, gradients too (control)", (device) =>
    checkSpecs(device, [spec("silu", 3, 32), spec("gelu_tanh", 2, 7)]),
  );
  add("matches the reference at F=1, 63, 64, 65 and at inputs of ±1e4", (device) =>
    checkSpecs(device, [spec("silu", 1, 1), spec("silu", 5, 63), spec("silu", 1, 64), spec("silu", 5, 65, 1e4)]),
  );
  add("matches the reference in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(41, 50, (random) => {
        const kind = random.pick(["silu", "gelu_tanh"] as const);
        return spec(kind, random.int(1, 20), random.int(1, 100), 10 ** random.int(-2, 2));
      }),
    ),
  );
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
