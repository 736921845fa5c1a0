import { adamwStep, countStep } from "../../src/ops/adamw.ts";
import { globalNorm } from "../../src/ops/global_norm.ts";
import { sgdStep } from "../../src/ops/sgd.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { adamwStep as referenceStep } from "../../src/reference/adamw.ts";
import { clipGradients } from "../../src/reference/clip_gradients.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, f32, u32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { tolerance } from "../support/tolerances.ts";

const ATTRS = { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.01, maxNorm: 1 };

export const cases = opCases("adamw", (test) => {
  for (const [title, maxNorm, maxPartBytes] of [
    ["clips and steps as the reference, from the second step on", 1, undefined],
    ["clips nothing at 0", 0, undefined],
    ["steps a parameter in row parts", 1, 4 * 5 * 8],
  ] as const) {
    test(title, async (device) => {
      const random = createRandom(8);
      const draw = (n: number) => Float64Array.from({ length: n }, () => Math.fround(random.normal()));
      const [rows, columns] = [37, 5];
      const n = rows * columns;
      const [param, grad, m] = [draw(n), draw(n), draw(n)];
      const v = draw(n).map((x) => Math.fround(x * x));
      const other = draw(9001);
      const got = await runOps(
        device,
        {
          param: { ...f32([rows, columns], param, "state"), maxPartBytes },
          grad: f32([rows, columns], grad),
          other: f32([9001], other),
          m: { ...f32([rows, columns], m, "state"), maxPartBytes },
          v: { ...f32([rows, columns], v, "state"), maxPartBytes },
          lr: f32([1], [0.01]),
          step: u32([1], [4], "state"),
        },
        (rec, t) => {
          const norm = globalNorm(rec, [t.grad, t.other]);
          adamwStep(rec, { ...t, norm }, { ...ATTRS, maxNorm });
          countStep(rec, t.step);
          return { norm, param: t.param, m: t.m, v: t.v, step: t.step };
        },
      );
      const norm = clipGradients([grad, other], maxNorm === 0 ? Number.POSITIVE_INFINITY : maxNorm);
      referenceStep({ param, m, v }, grad, { ...ATTRS, lr: Math.fround(0.01), step: 5 });
      assertClose(got.norm as Float32Array, [norm], { ...tolerance("f32"), label: "norm" });
      for (const [name, expected] of Object.entries({ param, m, v })) {
        assertClose(got[name] as Float32Array, expected, { ...tolerance("f32"), label: name });
      }
      if (got.step?.[0] !== 5) throw new Error(`step is ${got.step?.[0]}`);
    });
  }

  test("adds l2 to the gradient, and leaves everything as it is where the norm is not finite", async (device) => {
    for (const norm of [1, Number.POSITIVE_INFINITY, Number.NaN]) {
      const got = await runOps(
        device,
        {
          param: f32([2], [1, -2], "state"),
          grad: f32([2], [0.5, 0.25]),
          m: f32([2], [0, 0], "state"),
          v: f32([2], [0, 0], "state"),
          norm: f32([1], [norm]),
          lr: f32([1], [0.1]),
          step: u32([1], [0]),
        },
        (rec, t) => {
          adamwStep(rec, t, { ...ATTRS, weightDecay: 0, l2: 0.5, maxNorm: 0 });
          return { param: t.param, m: t.m };
        },
      );
      // The first step of Adam is lr against the gradient's sign.
      const [param, m] =
        norm === 1
          ? [
              [0.9, -1.9],
              [0.1, -0.075],
            ]
          : [
              [1, -2],
              [0, 0],
            ];
      assertClose(got.param as Float32Array, param, { ...tolerance("f32"), label: `param, norm ${norm}` });
      assertClose(got.m as Float32Array, m, { ...tolerance("f32"), label: `m, norm ${norm}` });
    }
  });

  test("takes the loss's scale off the gradients and their norm", async (device) => {
    const run = (scale: number) =>
      runOps(
        device,
        {
          param: f32([3], [1, -2, 3], "state"),
          grad: f32([3], [0.5 * scale, 0.25 * scale, -3 * scale]),
          m: f32([3], [0.1, 0, 0], "state"),
          v: f32([3], [0.1, 1, 0], "state"),
          other: f32([3], [1, -2, 3], "state"),
          lr: f32([1], [0.1]),
          step: u32([1], [3]),
          unscale: f32([1], [1 / scale]),
        },
        (rec, t) => {
          const unscale = scale === 1 ? undefined : t.unscale;
          const norm = globalNorm(rec, [t.grad], unscale);
          const scaled = unscale ? { unscale } : {};
          const { unscale: _, ...own } = t;
          adamwStep(rec, { ...own, ...scaled, norm }, ATTRS);
          sgdStep(rec, { param: t.other, grad: t.grad, lr: t.lr, norm, ...scaled }, { maxNorm: 1 });
          return { norm, param: t.param, m: t.m, v: t.v, other: t.other };
        },
      );
    const [plain, scaled] = [await run(1), await run(1024)];
    for (const [name, expected] of Object.entries(plain)) {
      assertClose(scaled[name] as Float32Array, expected as Float32Array, { atol: 0, rtol: 0, label: name });
    }
  });

  test("refuses a gradient of another shape", (device) =>
    assertShapeError(
      () =>
        runOps(
          device,
          {
            p: f32([2, 2], [1, 2, 3, 4], "state"),
            g: f32([4], [1, 2, 3, 4]),
            one: f32([1], [1]),
            step: u32([1], [0], "state"),
          },
          (rec, t) => {
            adamwStep(rec, { param: t.p, grad: t.g, m: t.p, v: t.p, norm: t.one, lr: t.one, step: t.step }, ATTRS);
            return { p: t.p };
          },
        ),
      "adamw: param, grad, m and v must be f32 of one shape; got p [2, 2] f32, g [4] f32, p [2, 2] f32, p [2, 2] f32.",
    ));
});
