import type { Device } from "../../src/gpu/device.ts";
import { type MatmulAttrs, type MatmulLayout, matmul } from "../../src/ops/matmul.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { matmul as reference } from "../../src/reference/matmul.ts";
import { assertClose } from "../support/close.ts";
import { roundToFloat16 } from "../support/float16.ts";
import { assertShapeError, backwardOf, f16, f32, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { gradientTolerance, sumTolerance } from "../support/tolerances.ts";

const LAYOUTS: readonly MatmulLayout[] = ["NN", "NT", "TN"];
const SEED = 7_331;

interface MatmulSpec {
  readonly M: number;
  readonly N: number;
  readonly K: number;
  readonly layout: MatmulLayout;
  readonly batch?: number;
  /** Batches of a that share one of b. */
  readonly group?: number;
  readonly dtype?: "f32" | "f16";
  /** Of a; default f32. */
  readonly left?: "f32" | "f16";
  readonly alpha?: number;
  readonly kernel?: MatmulAttrs["kernel"];
  readonly maxPartBytes?: number;
  readonly scale?: number;
}

function shapesOf({ M, N, K, layout, batch = 1, group = 1 }: MatmulSpec): { a: number[]; b: number[] } {
  return {
    a: [batch, ...(layout === "TN" ? [K, M] : [M, K])],
    b: [batch / group, ...(layout === "NT" ? [N, K] : [K, N])],
  };
}

function count(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

async function check(device: Device, spec: MatmulSpec, seed = 1): Promise<void> {
  const { M, N, K, layout, batch = 1, group = 1, dtype = "f32", alpha = 1, kernel, scale = 1 } = spec;
  const random = createRandom(seed);
  const shapes = shapesOf(spec);
  const ownA = random.normals(count(shapes.a), scale);
  const a = spec.left === "f16" ? roundToFloat16(ownA) : ownA;
  const drawn = random.normals(count(shapes.b));
  const b = dtype === "f16" ? roundToFloat16(drawn) : drawn;
  const flat = spec.maxPartBytes ? shapes.b.slice(1) : shapes.b;
  const inputs = {
    a: (spec.left === "f16" ? f16 : f32)(shapes.a, a),
    b: { ...(dtype === "f16" ? f16 : f32)(flat, b), maxPartBytes: spec.maxPartBytes },
  };
  const { out } = await runOps(device, inputs, (rec, v) => ({ out: matmul(rec, v.a, v.b, { layout, alpha, kernel }) }));
  const spread = Float64Array.from(
    { length: batch * N * K },
    (_, i) => b[Math.floor(i / (group * N * K)) * N * K + (i % (N * K))]!,
  );
  const options = { batch, M, N, K, transposeA: layout === "TN", transposeB: layout === "NT" };
  const expected = reference(a, spread, options).map((value) => value * alpha);
  assertClose(out ?? [], expected, {
    ...sumTolerance("f32", { K, maxTerm: 8 * scale }),
    label: `matmul ${JSON.stringify(spec)}`,
    shape: [batch, M, N],
    context: `seed ${seed}, tier ${device.facts.tier}`,
  });
}

export const cases = opCases("matmul", (add) => {
  for (const layout of LAYOUTS) {
    add(`${layout} matches the reference around its tiles`, async (device) => {
      for (const kernel of [undefined, "plain", "tiled"] as const) {
        for (const size of [1, 15, 16, 17, 31, 33, 63, 64, 65]) {
          await check(device, { M: size, N: 68, K: 20, layout, kernel });
          await check(device, { M: 20, N: size, K: 68, layout, kernel });
          await check(device, { M: 9, N: 12, K: size, layout, kernel });
        }
      }
    });
    add(`${layout} with batches, of which some share b, and a factor`, async (device) => {
      await check(device, { M: 9, N: 12, K: 16, layout, batch: 6, alpha: 0.125 });
      await check(device, { M: 9, N: 12, K: 16, layout, batch: 6, group: 3 });
      await check(device, { M: 7, N: 11, K: 5, layout, batch: 6, group: 2, alpha: -2 });
    });
    add(`${layout} with b in f16, and in several row parts`, async (device) => {
      await check(device, { M: 9, N: 44, K: 28, layout, dtype: "f16" });
      await check(device, { M: 9, N: 43, K: 29, layout, dtype: "f16" });
      for (const [N, K] of [
        [44, 28],
        [43, 29],
      ] as const) {
        await check(device, { M: 5, N, K, layout, maxPartBytes: 8 * 4 * (layout === "NT" ? K : N) });
      }
    });
    add(`${layout} with a in f16, by every kernel`, async (device) => {
      for (const kernel of [undefined, "plain", "tiled"] as const) {
        await check(device, { M: 9, N: 44, K: 28, layout, left: "f16", dtype: "f16", kernel });
        await check(device, { M: 10, N: 43, K: 29, layout, left: "f16", kernel });
      }
      await withGpuVariants(device, () => check(device, { M: 33, N: 20, K: 40, layout, left: "f16", dtype: "f16" }));
    });
    add(`${layout} has the gradients of a and b`, (device) =>
      checkGradients(device, { M: 9, N: 12, K: 20, layout, batch: 2, alpha: 0.5 }),
    );
  }
  add("stays right where a is ±1e4", (device) => check(device, { M: 33, N: 20, K: 64, layout: "NT", scale: 1e4 }));
  add(`matches the reference for 200 drawn shapes, seed ${SEED}`, async (device) => {
    const random = createRandom(SEED);
    for (let i = 0; i < 200; i++) {
      const width = () => random.pick([random.int(1, 70), 4 * random.int(1, 20)]);
      const batch = random.int(1, 3);
      await check(
        device,
        { M: width(), N: width(), K: width(), layout: random.pick(LAYOUTS), batch, group: random.pick([1, batch]) },
        SEED + i,
      );
    }
  });
  add("refuses shapes that do not fit", async (device) => {
    const run = (a: number[], b: number[], layout: MatmulLayout) => () =>
      runOps(device, { a: f32(a, new Float64Array(count(a))), b: f32(b, new Float64Array(count(b))) }, (rec, v) => ({
        out: matmul(rec, v.a, v.b, { layout }),
      }));
    await assertShapeError(
      run([2, 3], [4, 5], "NN"),
      "matmul: NN needs as much depth in b as in a; got a [2, 3] f32, b [4, 5] f32.",
    );
    await assertShapeError(
      run([3, 2, 4], [2, 4, 5], "NN"),
      "matmul: the batch of a must be a multiple of the batch of b; got a [3, 2, 4] f32, b [2, 4, 5] f32.",
    );
  });
});

/** Both gradients by the definition: da = alpha · dout·bᵀ and db = alpha · aᵀ·dout, transposed as the operands are. */
async function checkGradients(device: Device, spec: MatmulSpec): Promise<void> {
  const { M, N, K, layout, batch = 1, alpha = 1 } = spec;
  const random = createRandom(3);
  const shapes = shapesOf(spec);
  const [a, b, dout] = [
    random.normals(count(shapes.a)),
    random.normals(count(shapes.b)),
    random.normals(batch * M * N),
  ];
  const inputs = { a: f32(shapes.a, a), b: f32(shapes.b, b), dout: f32([batch, M, N], dout) };
  const { da, db } = await runOps(device, inputs, (rec, v) => {
    matmul(rec, v.a, v.b, { layout, alpha });
    const grads = backwardOf(rec, [v.dout], ["a", "b"]);
    return { da: grads["a"]!, db: grads["b"]! };
  });
  const expected = { da: new Float64Array(a.length), db: new Float64Array(b.length) };
  for (let g = 0; g < batch; g++) {
    for (let m = 0; m < M; m++) {
      for (let n = 0; n < N; n++) {
        const grad = alpha * dout[(g * M + m) * N + n]!;
        for (let k = 0; k < K; k++) {
          const ia = g * M * K + (layout === "TN" ? k * M + m : m * K + k);
          const ib = g * K * N + (layout === "NT" ? n * K + k : k * N + n);
          expected.da[ia]! += grad * b[ib]!;
          expected.db[ib]! += grad * a[ia]!;
        }
      }
    }
  }
  assertClose(da ?? [], expected.da, { ...gradientTolerance(expected.da), label: `da ${layout}` });
  assertClose(db ?? [], expected.db, { ...gradientTolerance(expected.db), label: `db ${layout}` });
}
