import type { Device } from "../../src/gpu/device.ts";
import { castF16 } from "../../src/ops/cast.ts";
import { sliceColumns } from "../../src/ops/slice_columns.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { toFloat16Bits } from "../support/float16.ts";
import { assertShapeError, backwardOf, f32, u32 } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";

/** Sizes that f16 holds as normal numbers, those below, and those beyond. */
const EDGES = [0, -0, 1, -1, 65504, 65519, 65520, -65520, 1e30, -1e30, 6.1e-5, 5.96e-8, 2.9e-8, 1 / 3];

async function check(device: Device, shape: readonly number[], x: ArrayLike<number>, part?: number): Promise<void> {
  const { out } = await runOps(device, { x: { ...f32(shape, x), maxPartBytes: part } }, (rec, v) => ({
    out: castF16(rec, v.x),
  }));
  same(out as Uint16Array, toFloat16Bits(Float32Array.from(x)));
}

function same(got: Uint16Array, expected: Uint16Array): void {
  expected.forEach((bits, i) => {
    // Devices may flush what is smaller than a normal number of f16.
    const isTiny = (bits & 0x7c00) === 0;
    if (got[i] === bits || (isTiny && (got[i] ?? 1) % 0x8000 === 0)) return;
    throw new Error(`element ${i} is ${got[i]?.toString(16)}; expected ${bits.toString(16)}`);
  });
}

export const cases = opCases("cast_f16", (add) => {
  add("rounds to the nearest half, an odd count too", (device) => check(device, [13, 5], createRandom(2).normals(65)));
  add("turns what is too large into infinities", (device) => check(device, [EDGES.length], EDGES));
  add("keeps NaN", async (device) => {
    const { out } = await runOps(device, { x: f32([2], [Number.NaN, 1]) }, (rec, v) => ({ out: castF16(rec, v.x) }));
    const bits = out?.[0] ?? 0;
    if ((bits & 0x7fff) <= 0x7c00) throw new Error(`NaN became ${bits.toString(16)}`);
  });
  add("reads a range of columns", async (device) => {
    const x = createRandom(3).normals(4 * 9);
    const { out } = await runOps(device, { x: f32([4, 9], x) }, (rec, v) => ({
      out: castF16(rec, sliceColumns(rec, v.x, 2, 3)),
    }));
    same(out as Uint16Array, toFloat16Bits(Array.from(x).filter((_, i) => i % 9 >= 2 && i % 9 < 5)));
  });
  add("reads row parts", (device) => check(device, [40, 6], createRandom(4).normals(240), 8 * 24));
  add("hands its gradient on as it is", async (device) => {
    await runOps(device, { x: f32([2], [1, 2]), dout: f32([2], [3, 4]) }, (rec, v) => {
      const out = castF16(rec, v.x);
      if (backwardOf(rec, [v.dout], ["x"])["x"] !== v.dout) throw new Error("the gradient was changed");
      return { out };
    });
  });
  add("refuses what is not f32", (device) =>
    assertShapeError(
      () => runOps(device, { x: u32([2], [1, 2]) }, (rec, v) => ({ out: castF16(rec, v.x) })),
      "cast_f16: x must be f32, its row parts of an even size; got x [2] u32.",
    ),
  );
});
