import type { Device } from "../../src/gpu/device.ts";
import { linear, type LinearAttrs } from "../../src/ops/linear.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { linearBackward } from "../../src/reference/matmul.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, backwardOf, f32, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { gradientTolerance } from "../support/tolerances.ts";
import { checkLinear, type LinearSpec } from "./linear_support.ts";

const ROWS = [1, 2, 5, 8, 9, 64, 65];
const DEPTHS = [1, 3, 4, 64, 65, 288];
const DTYPES = ["f32", "f16"] as const;
const SEED = 20240611;

async function sweep(
  device: Device,
  spec: Omit<LinearSpec, "N" | "K" | "M">,
  depths: readonly number[] = DEPTHS,
): Promise<void> {
  for (const K of depths) {
    for (const N of ROWS) await checkLinear(device, { ...spec, N, K, M: 2 * N + 33 });
  }
}

export const cases = opCases("linear", (add) => {
  for (const dtype of DTYPES) {
    add(`matches the reference at every N and K with the device's own choice of kernel (${dtype})`, (device) =>
      sweep(device, { dtype, bias: true }),
    );
    add(`plain matches the reference, M odd, bias and residual (${dtype})`, (device) =>
      sweep(device, { dtype, bias: true, residual: true, attrs: { kernel: "plain" } }, [1, 3, 4, 65, 68]),
    );
    add(`the kernels of GPUs match the reference, M odd, bias and residual (${dtype})`, (device) =>
      withGpuVariants(device, () => sweep(device, { dtype, bias: true, residual: true }, [1, 3, 4, 65, 68])),
    );
    add(`reads a weight of several row parts (${dtype})`, async (device) => {
      const maxPartBytes = 24 * 64 * (dtype === "f16" ? 2 : 4);
      for (const N of [1, 9]) {
        await checkLinear(device, { N, K: 64, M: 101, dtype, bias: true, residual: true, maxPartBytes });
      }
    });
  }

  add("reads x as columns of something wider", async (device) => {
    for (const N of [1, 3, 17]) {
      for (const K of [32, 33]) await checkLinear(device, { N, K, M: 21, view: true, bias: true });
    }
  });

  const epilogues: LinearAttrs[] = [{ activation: "gelu_tanh" }, { activation: "silu" }];
  for (const attrs of epilogues) {
    add(`fuses ${attrs.activation} between bias and residual`, async (device) => {
      const check = async (): Promise<void> => {
        for (const N of [1, 4, 33]) await checkLinear(device, { N, K: 36, M: 45, bias: true, residual: true, attrs });
      };
      await check();
      await withGpuVariants(device, check);
    });
  }

  const norms: LinearAttrs[] = [
    { norm: { kind: "rms", eps: 1e-5 } },
    { norm: { kind: "rms", eps: 1e-6, plusOne: true } },
    { norm: { kind: "layer", eps: 1e-5 } },
  ];
  for (const attrs of norms) {
    const name = `${attrs.norm?.kind} norm${attrs.norm?.plusOne ? " with gain 1 + weight" : ""}`;
    add(`fuses ${name} before the product`, async (device) => {
      const check = async (N: number, normBias: boolean): Promise<void> => {
        await checkLinear(device, { N, K: 68, M: 35, bias: true, normBias, attrs });
        await checkLinear(device, { N, K: 68, M: 35, normBias, scale: 1e4, attrs });
      };
      const layer = attrs.norm?.kind === "layer";
      await check(1, layer);
      await withGpuVariants(device, async () => {
        await check(1, false);
        await check(8, layer);
      });
    });
  }

  add("fuses a gate, with and without rms norm", async (device) => {
    for (const N of [1, 6]) {
      for (const F of [1, 16, 35]) {
        await checkLinear(device, { N, K: 64, M: 2 * F, residual: true, attrs: { gated: "silu" } });
        await checkLinear(device, {
          N,
          K: 64,
          M: 2 * F,
          bias: true,
          attrs: { gated: "silu", norm: { kind: "rms", eps: 1e-5 } },
        });
      }
    }
  });

  add("stays right where x is ±1e4", (device) => checkLinear(device, { N: 9, K: 288, M: 65, scale: 1e4 }));

  add(`matches the reference for 200 drawn shapes, seed ${SEED}`, async (device) => {
    const random = createRandom(SEED);
    for (let i = 0; i < 200; i++) {
      const spec = {
        N: random.pick([1, 1, random.int(1, 9), random.int(1, 80)]),
        K: random.pick([random.int(1, 70), 4 * random.int(1, 40)]),
        M: random.int(1, 90),
        dtype: random.pick(DTYPES),
        bias: random.uniform() < 0.5,
        residual: random.uniform() < 0.5,
        seed: SEED + i,
      };
      await checkLinear(device, spec);
    }
  });

  for (const maxPartBytes of [undefined, 24 * 20 * 4]) {
    add(`has the reference's gradients${maxPartBytes ? ", of a weight in several parts too" : ""}`, async (device) => {
      for (const N of [1, 6, 37]) await checkGradients(device, { N, K: 20, M: 51, maxPartBytes });
      if (!maxPartBytes) await checkGradients(device, { N: 7, K: 5, M: 3 });
    });
  }

  add("refuses shapes that do not fit", async (device) => {
    const x = f32([2, 8], new Float64Array(16));
    const run = (weight: number[], bias?: number[]) => () =>
      runOps(
        device,
        {
          x,
          weight: f32(weight, new Float64Array(weight[0]! * weight[1]!)),
          bias: f32(bias ?? [3], new Float64Array(bias?.[0] ?? 3)),
        },
        (rec, v) => ({ out: linear(rec, v.x, v.weight, { bias: v.bias }) }),
      );
    await assertShapeError(
      run([8, 3]),
      "linear: x must be [N, K] f32 and weight [M, K] f32, f16 or packed; got x [2, 8] f32, weight [8, 3] f32. A weight stored [in, out] has to be transposed.",
    );
    await assertShapeError(run([3, 8], [4]), "linear: bias must be [3] f32; got bias [4] f32. Load biases as f32.");
  });
});

async function checkGradients(device: Device, { N, K, M, maxPartBytes }: LinearSpec): Promise<void> {
  const random = createRandom(N);
  const [x, weight, dout] = [random.normals(N * K), random.normals(M * K), random.normals(N * M)];
  const inputs = {
    x: f32([N, K], x),
    weight: { ...f32([M, K], weight), maxPartBytes },
    bias: f32([M], new Float64Array(M)),
    dout: f32([N, M], dout),
  };
  const { dx, dweight, dbias } = await runOps(device, inputs, (rec, v) => {
    linear(rec, v.x, v.weight, { bias: v.bias });
    const grads = backwardOf(rec, [v.dout], ["x", "weight", "bias"]);
    return { dx: grads["x"]!, dweight: grads["weight"]!, dbias: grads["bias"]! };
  });
  const expected = linearBackward(x, weight, dout, { N, I: K, O: M });
  const compare = (name: string, actual: ArrayLike<number> | undefined, reference: Float64Array) =>
    assertClose(actual ?? [], reference, {
      ...gradientTolerance(reference),
      label: `${name} N=${N} K=${K} M=${M}`,
      context: device.facts.tier,
    });
  compare("dx", dx, expected.dx);
  compare("dweight", dweight, expected.dweight);
  compare("dbias", dbias, expected.dbias);
}
