import { groupNorm } from "../../src/ops/group_norm.ts";
import { rowMoments } from "../../src/ops/row_moments.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { groupNorm as reference } from "../../src/reference/group_norm.ts";
import { layerNorm } from "../../src/reference/layer_norm.ts";
import { assertShapeError, f32, GPU_VARIANT_TIERS, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { tolerance } from "../support/tolerances.ts";

interface Sizes {
  N: number;
  C: number;
  inner: number;
  groups: number;
  bias: boolean;
  mean?: number;
}

/** Group norm, and of the same numbers the moments of `[N · groups]` rows. */
function spec(sizes: Sizes): OpSpec {
  const { N, C, inner, groups, bias: hasBias, mean = 0 } = sizes;
  const random = createRandom(N + C * inner);
  const x = random.normals(N * C * inner).map((value) => value + mean);
  const [weight, bias] = [random.normals(C), random.normals(C)];
  const eps = 1e-5;
  const columns = (C / groups) * inner;
  const ones = new Float64Array(columns).fill(1);
  const moments = layerNorm(Float64Array.from(Float32Array.from(x)), ones, { N: N * groups, C: columns, eps });
  const rounded = (values: ArrayLike<number>) => Float64Array.from(Float32Array.from(values));
  const out = reference(rounded(x), rounded(weight), {
    ...{ N, C, inner, groups, eps },
    bias: hasBias ? rounded(bias) : undefined,
  });
  return {
    label: JSON.stringify(sizes),
    inputs: {
      x: f32([N, C, inner], x),
      rows: f32([N * groups, columns], x),
      weight: f32([C], weight),
      ...(hasBias ? { bias: f32([C], bias) } : {}),
    },
    record: (rec, { x, rows, weight, bias }) => ({
      out: groupNorm(rec, x!, weight!, bias, { groups, eps }),
      ...rowMoments(rec, rows!, { eps }),
    }),
    expected: {
      out: { values: out, close: { ...tolerance("f32"), atol: 1e-5 + 1e-6 * Math.abs(mean) } },
      mean: { values: moments.mean, close: tolerance("f32") },
      rstd: { values: moments.rstd, close: tolerance("f32") },
    },
  };
}

export const cases = opCases("group_norm", (add) => {
  add("matches the reference, and so do the moments of rows (control)", (device) =>
    checkSpecs(device, [spec({ N: 2, C: 8, inner: 5, groups: 2, bias: true })]),
  );
  add("matches with one group, one channel a group, no bias, and a mean of 100", (device) =>
    checkSpecs(device, [
      spec({ N: 1, C: 6, inner: 7, groups: 1, bias: true }),
      spec({ N: 3, C: 4, inner: 9, groups: 4, bias: false }),
      spec({ N: 2, C: 4, inner: 16, groups: 2, bias: true, mean: 100 }),
    ]),
  );
  add("matches in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(89, 50, (random) => {
        const groups = random.int(1, 4);
        const C = groups * random.int(1, 6);
        return spec({ N: random.int(1, 9), C, inner: random.int(2, 40), groups, bias: random.pick([true, false]) });
      }),
    ),
  );
  add(
    "matches with a workgroup a row, as GPUs run it",
    (device) =>
      withGpuVariants(device, () => checkSpecs(device, [spec({ N: 2, C: 6, inner: 300, groups: 3, bias: true })])),
    GPU_VARIANT_TIERS,
  );
  add("refuses channels that the groups do not divide", (device) =>
    assertShapeError(
      () =>
        runOps(device, { x: f32([1, 4], new Float32Array(4)), w: f32([4], new Float32Array(4)) }, (rec, v) => ({
          out: groupNorm(rec, v.x, v.w, undefined, { groups: 3, eps: 1e-5 }),
        })),
      "group_norm: x must be [N, C, …] f32 with C a multiple of groups; got x [1, 4] f32, groups 3.",
    ),
  );
});
