import type { Device } from "../../src/gpu/device.ts";
import { NO_KEY, weightSummary } from "../../src/ops/weight_summary.ts";
import { runOps } from "../../src/program/run_ops.ts";
import { weightSummary as reference } from "../../src/reference/weight_summary.ts";
import { assertClose } from "../support/close.ts";
import { assertShapeError, f32, u32, withGpuVariants } from "../support/host.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom } from "../support/random.ts";

/** Rows of causal weights `[heads, queries, keys]`, query i at position keys − queries + i. */
function draw(heads: number, queries: number, keys: number): { weights: Float64Array; positions: number[] } {
  const random = createRandom(heads * 1000 + queries * 100 + keys);
  const positions = Array.from({ length: queries }, (_, i) => keys - queries + i);
  const weights = new Float64Array(heads * queries * keys);
  for (let row = 0; row < heads * queries; row++) {
    const seen = positions[row % queries]! + 1;
    const scores = random.normals(seen, 2).map(Math.exp);
    const sum = scores.reduce((a, b) => a + b, 0);
    weights.set(
      scores.map((s) => Math.fround(s / sum)),
      row * keys,
    );
  }
  return { weights, positions };
}

async function check(device: Device, [heads, queries, keys]: [number, number, number], top: number): Promise<void> {
  const { weights, positions } = draw(heads, queries, keys);
  // The first two keys of the last row are equals.
  const last = (heads * queries - 1) * keys;
  if (keys > 1) weights[last + 1] = weights[last]!;
  const inputs = {
    weights: f32([heads, queries, keys], weights),
    places: u32(
      [queries, 2],
      positions.flatMap((p) => [9, p]),
    ),
  };
  const got = await runOps(device, inputs, (rec, v) => ({ ...weightSummary(rec, v, { top }) }));
  for (let row = 0; row < heads * queries; row++) {
    const want = reference(weights.subarray(row * keys, (row + 1) * keys), positions[row % queries]!, top);
    const label = `row ${row} of [${heads}, ${queries}, ${keys}]`;
    assertClose(
      (got["stats"] as Float32Array).subarray(row * 3, row * 3 + 3),
      [want.entropy, want.first, want.distance],
      {
        atol: 1e-5,
        rtol: 1e-5,
        label,
      },
    );
    const names = [...want.topKeys, ...Array(top).fill(NO_KEY)].slice(0, top);
    assertClose((got["topKeys"] as Uint32Array).subarray(row * top, (row + 1) * top), names, {
      atol: 0,
      rtol: 0,
      label,
    });
    const shares = names.map((key) => (key === NO_KEY ? 0 : weights[row * keys + key]!));
    const topWeights = (got["topWeights"] as Float32Array).subarray(row * top, (row + 1) * top);
    assertClose(topWeights, shares, { atol: 0, rtol: 0, label });
  }
}

export const cases = opCases("weight_summary", (add) => {
  add("matches the reference for rows of 1 to 130 keys, equal weights among them", async (device) => {
    await check(device, [2, 5, 17], 5);
    await check(device, [1, 1, 1], 3);
    await check(device, [3, 2, 130], 8);
  });
  add("matches it with the variants of GPUs", (device) => withGpuVariants(device, () => check(device, [2, 3, 130], 5)));
  add("refuses another shape", (device) =>
    assertShapeError(
      () =>
        runOps(device, { weights: f32([2, 3], Array(6).fill(0)), places: u32([3], [0, 1, 2]) }, (rec, v) => ({
          ...weightSummary(rec, v, { top: 1 }),
        })),
      "weight_summary: weights must be [h, r, S] or [B, h, r, S] f32; got weights [2, 3] f32.",
    ),
  );
});
