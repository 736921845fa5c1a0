import { expect, it } from "vitest";
import type { TensorDType } from "../../src/core/dtype.ts";
import { quantise } from "../../src/formats/quantise.ts";
import { Tensor } from "../../src/gpu/tensor.ts";
import { adaptedLengths } from "../../src/models/lora_lengths.ts";
import { floatsToHalves } from "../../src/models/weight_places.ts";
import { dequantise } from "../../src/reference/dequantise.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice } from "../support/devices.ts";
import { createRandom } from "../support/random.ts";

/** √Σ (W + scale · B · A)² of some rows, in f64. */
function expectedLengths(
  w: ArrayLike<number>,
  a: Float32Array,
  b: Float32Array,
  size: { columns: number; scale: number },
) {
  const { columns, scale } = size;
  const rank = a.length / columns;
  return Array.from({ length: b.length / rank }, (_, row) => {
    let squares = 0;
    for (let c = 0; c < columns; c++) {
      let sum = 0;
      for (let i = 0; i < rank; i++) sum += b[row * rank + i]! * a[i * columns + c]!;
      squares += (w[row * columns + c]! + scale * sum) ** 2;
    }
    return Math.sqrt(squares);
  });
}

describeOnDevice("adaptedLengths", (device) => {
  it.each<[TensorDType, number, number, number | undefined]>([
    ["f32", 37, 20, undefined],
    ["f16", 24, 64, 512],
    ["q8_0", 40, 64, undefined],
    ["q4_0", 33, 32, undefined],
    ["f32", 2100, 4096, 2 ** 24],
  ])("are those of the sum, for %s [%i, %i], in parts of %s bytes", async (dtype, rows, columns, maxPartBytes) => {
    const random = createRandom(rows);
    const w = Float32Array.from(random.normals(rows * columns));
    // The layer is the last rows of a joined weight.
    const rowStart = 5;
    const own = rows - rowStart;
    const a = Float32Array.from(random.normals(3 * columns));
    const b = Float32Array.from(random.normals(own * 3));
    const data = dtype === "f32" ? w : dtype === "f16" ? floatsToHalves(w) : quantise(dtype as "q8_0", w);
    const kept = dtype.startsWith("q") ? dequantise(dtype as "q8_0", data as Uint8Array) : w;
    const weight = Tensor.from(device(), "w", [rows, columns], dtype, data, { maxPartBytes });
    const module = { name: "w", weight, rowStart, rows: own, columns, perHead: undefined };
    const lengths = await adaptedLengths(device(), { module, a, b, scale: 0.7 });
    const expected = expectedLengths(Array.from(kept).slice(rowStart * columns), a, b, { columns, scale: 0.7 });
    assertClose(lengths, expected, dtype === "f16" ? { atol: 1e-3, rtol: 1e-3 } : { atol: 1e-5, rtol: 1e-5 });
    weight.dispose();
    expect(device().buffersInUse).toBe(0);
  });
});
