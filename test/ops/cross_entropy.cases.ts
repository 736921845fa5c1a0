import { crossEntropy } from "../../src/ops/cross_entropy.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { crossEntropy as reference } from "../../src/reference/cross_entropy.ts";
import { assertShapeError, backwardOf, f32, i32, GPU_VARIANT_TIERS, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { checkSpecs, drawSpecs, type OpSpec } from "../support/specs.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

interface Sizes {
  N: number;
  V: number;
  smoothing?: number;
  scale?: number;
  ignored?: "some" | "all";
}

function spec(sizes: Sizes): OpSpec {
  const { N, V, smoothing, scale = 1, ignored } = sizes;
  const random = createRandom(N + V);
  const logits = random.normals(N * V, scale);
  const isIgnored = (n: number) => ignored === "all" || (ignored === "some" && n % 3 === 0);
  const targets = random.ints(N, 0, V - 1).map((t, n) => (isIgnored(n) ? -100 : t));
  const expected = reference(logits, targets, { N, V, labelSmoothing: smoothing });
  const dlogits = expected.dlogits.map((g) => 2 * g);
  return {
    label: JSON.stringify(sizes),
    inputs: { logits: f32([N, V], logits), targets: i32([N], targets), dloss: f32([1], [2]) },
    record(rec, { logits, targets, dloss }) {
      const loss = crossEntropy(rec, logits!, targets!, { labelSmoothing: smoothing });
      return { loss, dlogits: backwardOf(rec, [dloss!], ["logits"])["logits"]! };
    },
    expected: {
      loss: { values: [expected.loss], close: tolerance("f32") },
      dlogits: { values: dlogits, close: { ...gradientTolerance(dlogits), shape: [N, V] } },
    },
  };
}

export const cases = opCases("cross_entropy", (add) => {
  add("loss and gradient match the reference (control)", (device) => checkSpecs(device, [spec({ N: 5, V: 64 })]));
  add("match at N=1, 7, 8, 9, 40 and V=1, 2, 12, 65, 1000", (device) => {
    const sizes = [
      [1, 2],
      [7, 1],
      [8, 65],
      [9, 1000],
      [40, 12],
    ] as const;
    return checkSpecs(
      device,
      sizes.map(([N, V]) => spec({ N, V })),
    );
  });
  add("leave ignored rows out, and give 0 where all are", (device) =>
    checkSpecs(device, [spec({ N: 10, V: 20, ignored: "some" }), spec({ N: 4, V: 20, ignored: "all" })]),
  );
  add("match with label smoothing", (device) =>
    checkSpecs(device, [
      spec({ N: 5, V: 64, smoothing: 0.1 }),
      spec({ N: 9, V: 13, smoothing: 0.3, ignored: "some" }),
      spec({ N: 3, V: 5, smoothing: 1 }),
    ]),
  );
  add("match at logits of ±1e4", (device) => checkSpecs(device, [spec({ N: 6, V: 33, scale: 1e4 })]));
  add("match in 50 drawn shapes", (device) =>
    checkSpecs(
      device,
      drawSpecs(71, 50, (random) => {
        const ignored = random.pick(["some", undefined] as const);
        return spec({ N: random.int(1, 40), V: random.int(1, 200), scale: 10 ** random.int(-2, 2), ignored });
      }),
    ),
  );
  add(
    "match with a workgroup a row, as GPUs run it",
    (device) =>
      withGpuVariants(device, () =>
        checkSpecs(device, [spec({ N: 3, V: 1000, scale: 5 }), spec({ N: 300, V: 8, ignored: "some" })]),
      ),
    GPU_VARIANT_TIERS,
  );
  add("refuses targets of another length", (device) =>
    assertShapeError(
      () =>
        runOps(device, { logits: f32([2, 3], new Float32Array(6)), targets: i32([3], [0, 0, 0]) }, (rec, v) => ({
          loss: crossEntropy(rec, v.logits, v.targets),
        })),
      "cross_entropy: targets must be [N] i32 or u32 with N = 2; got targets [3] i32.",
    ),
  );
});
