import type { PackedFormat } from "../../src/core/dtype.ts";
import type { Device } from "../../src/gpu/device.ts";
import { embedding } from "../../src/ops/embedding.ts";
import { LINEAR, linear, type LinearAttrs } from "../../src/ops/linear.ts";
import { only, type Value } from "../../src/ops/op.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { backwardOf, f32, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";
import { drawPacked, normalisedError, PACKED_FORMATS, packedProduct } from "./packed_support.ts";

/** The bound that weights in blocks must keep. */
const MAX_ERROR = 1e-6;

interface Product {
  readonly format: PackedFormat;
  readonly N: number;
  readonly M: number;
  readonly K: number;
  readonly attrs?: LinearAttrs;
  readonly maxPartBytes?: number;
}

async function checkProduct(device: Device, { format, N, M, K, attrs = {}, maxPartBytes }: Product): Promise<void> {
  const random = createRandom(5);
  const x = random.normals(N * K);
  const weight = drawPacked(format, M * K, random);
  const { out } = await runOps(
    device,
    {
      x: { shape: [N, K], data: Float32Array.from(x) },
      weight: { shape: [M, K], data: weight.data, dtype: format, maxPartBytes },
    },
    (rec, v) => ({ out: only(rec.record(LINEAR, { x: v.x, weight: v.weight }, attrs)) }),
  );
  const error = normalisedError(out as Float32Array, packedProduct(x, weight.values, { N, K, M }));
  if (!(error <= MAX_ERROR))
    throw new Error(`${format} [${N}, ${K}] · [${M}, ${K}]ᵀ: error ${error}, allowed ${MAX_ERROR}`);
}

/** `dx = dout · weight`, as a frozen layer hands its gradient on: packed rows that are summed over. */
async function checkGradient(device: Device, { format, N, M, K, maxPartBytes }: Product): Promise<void> {
  const random = createRandom(6);
  const dout = random.normals(N * M);
  const weight = drawPacked(format, M * K, random);
  const inputs = {
    x: f32([N, K], new Float32Array(N * K)),
    weight: { shape: [M, K], data: weight.data, dtype: format, maxPartBytes },
    dout: f32([N, M], dout),
  };
  const { dx } = await runOps(device, inputs, (rec, v) => {
    linear(rec, v.x, v.weight);
    return { dx: backwardOf(rec, [v.dout], ["x"])["x"] as Value };
  });
  const expected = new Float64Array(N * K);
  for (let n = 0; n < N; n++) {
    for (let m = 0; m < M; m++) {
      const factor = dout[n * M + m] ?? 0;
      for (let k = 0; k < K; k++) expected[n * K + k]! += factor * (weight.values[m * K + k] ?? 0);
    }
  }
  const error = normalisedError(dx as Float32Array, expected);
  if (!(error <= MAX_ERROR)) throw new Error(`gradient through ${format}: error ${error}, allowed ${MAX_ERROR}`);
}

/** A gather of every row must give the weights to the last bit. */
async function checkGather(device: Device, format: PackedFormat): Promise<void> {
  const [rows, columns] = [5, 512];
  const weight = drawPacked(format, rows * columns, createRandom(9));
  const ids = Uint32Array.from([4, 0, 3, 1, 2, 2]);
  const { out } = await runOps(
    device,
    { ids: { shape: [ids.length], data: ids }, table: { shape: [rows, columns], data: weight.data, dtype: format } },
    (rec, v) => ({ out: embedding(rec, v.ids, v.table as Value) }),
  );
  ids.forEach((id, n) => {
    for (let c = 0; c < columns; c++) {
      const [got, expected] = [out?.[n * columns + c], weight.values[id * columns + c]];
      if (got !== expected) throw new Error(`${format}: weight ${c} of row ${id} is ${got}; expected ${expected}`);
    }
  });
}

export const cases = opCases("packed", (add) => {
  for (const format of PACKED_FORMATS) {
    add(`embedding gathers ${format} to the last bit`, (device) => checkGather(device, format));
    add(`linear of one row, ${format}`, (device) => checkProduct(device, { format, N: 1, M: 37, K: 512 }));
    add(`linear of many rows, ${format}`, (device) => checkProduct(device, { format, N: 35, M: 70, K: 768 }));
  }
  for (const format of PACKED_FORMATS) {
    add(`linear hands a gradient on through ${format}`, async (device) => {
      await checkGradient(device, { format, N: 9, M: 37, K: 256 });
      await withGpuVariants(device, () => checkGradient(device, { format, N: 9, M: 37, K: 256 }));
    });
  }
  add("linear hands a gradient on through q8_0 in several row parts", (device) =>
    checkGradient(device, { format: "q8_0", N: 5, M: 40, K: 96, maxPartBytes: 8 * 102 }),
  );
  add("linear of three rows, q8_0, blocks of 34 bytes at odd halves of words", (device) =>
    checkProduct(device, { format: "q8_0", N: 3, M: 9, K: 96 }),
  );
  add("linear in several row parts, q6_k", (device) =>
    checkProduct(device, { format: "q6_k", N: 1, M: 40, K: 512, maxPartBytes: 8 * 420 }),
  );
  for (const kernel of ["plain", "tiled"] as const) {
    add(`linear by the kernel ${kernel}, q4_k`, (device) =>
      checkProduct(device, { format: "q4_k", N: 20, M: 33, K: 256, attrs: { kernel } }),
    );
  }
  add("linear refuses rows that are no whole number of blocks", async (device) => {
    const message = await checkProduct(device, { format: "q4_k", N: 1, M: 8, K: 128 }).then(() => "no error", String);
    if (!/K must be a multiple of 256 for q4_k/.test(message)) throw new Error(message);
  });
});
