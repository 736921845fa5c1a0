import type { Device } from "../../src/gpu/device.ts";
import { crossEntropy } from "../../src/ops/cross_entropy.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { crossEntropy as reference } from "../../src/reference/cross_entropy.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, backwardOf, f32, i32, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";

interface Spec {
  N: number;
  V: number;
  scale?: number;
  ignored?: "some" | "all";
}

async function check(device: Device, spec: Spec): Promise<void> {
  const { N, V, scale = 1, ignored } = spec;
  const random = createRandom(N + V);
  const logits = random.normals(N * V, scale);
  const targets = random
    .ints(N, 0, V - 1)
    .map((t, n) => (ignored === "all" || (ignored === "some" && n % 3 === 0) ? -100 : t));
  const inputs = { logits: f32([N, V], logits), targets: i32([N], targets), dloss: f32([1], [2]) };
  const got = await runOps(device, inputs, (rec, v) => {
    const loss = crossEntropy(rec, v.logits, v.targets);
    return { loss, dlogits: backwardOf(rec, [v.dloss], ["logits"])["logits"]! };
  });
  const expected = reference(logits, targets, { N, V });
  assertClose(got["loss"]!, [expected.loss], { ...tolerance("f32"), label: `loss ${JSON.stringify(spec)}` });
  const dlogits = expected.dlogits.map((g) => 2 * g);
  assertClose(got["dlogits"]!, dlogits, {
    ...gradientTolerance(dlogits),
    label: `dlogits ${JSON.stringify(spec)}`,
    shape: [N, V],
  });
}

export const cases = opCases("cross_entropy", (add) => {
  add("loss and gradient match the reference (control)", (device) => check(device, { N: 5, V: 64 }));
  add("match at N=1, 7, 8, 9, 40 and V=1, 2, 65, 1000", async (device) => {
    for (const [N, V] of [
      [1, 2],
      [7, 1],
      [8, 65],
      [9, 1000],
      [40, 12],
    ] as const)
      await check(device, { N, V });
  });
  add("leave ignored rows out, and give 0 where all are", async (device) => {
    await check(device, { N: 10, V: 20, ignored: "some" });
    await check(device, { N: 4, V: 20, ignored: "all" });
  });
  add("match at logits of ±1e4", (device) => check(device, { N: 6, V: 33, scale: 1e4 }));
  add("match with a workgroup a row", (device) =>
    withGpuVariants(device, async () => {
      await check(device, { N: 3, V: 1000, scale: 5 });
      await check(device, { N: 300, V: 7, ignored: "some" });
    }),
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
