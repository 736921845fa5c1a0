import type { Device } from "../../src/gpu/device.ts";
import { opCases } from "../support/op_cases.ts";
import { createRandom, testSeed } from "../support/random.ts";
import { checkSpec, drawSpec, spec } from "./attention_spec_support.ts";

/** Draws of each path and tier: 400 in all, 1,000 in the long run. The browser has no process. */
const DRAWS = globalThis.process?.env["HEED_LONG"] === "1" ? 125 : 50;
const SEEDS = { core: 400, subgroups: 401, f16: 402, full: 403 };

export const cases = opCases("attention (specification)", (add) => {
  add(`three kernels match the reference on ${DRAWS} drawn specifications, forward and backward`, async (device) => {
    const random = createRandom(testSeed(`three kernels on ${device.facts.tier}`, SEEDS[device.facts.tier]));
    for (let i = 0; i < DRAWS; i++)
      await checkSpec(device, random, drawSpec(random), { path: "unfused", backward: true });
  });
  add(`fused kernels match the reference on ${DRAWS} drawn specifications, forward and backward`, async (device) => {
    const random = createRandom(testSeed(`fused kernels on ${device.facts.tier}`, SEEDS[device.facts.tier] + 10));
    for (let i = 0; i < DRAWS; i++) {
      const s = drawSpec(random, { few: true });
      const isUnfused = s.selection === "hard" || s.dropout || (s.bias && s.mask && s.relative);
      const fused = isUnfused ? "attention" : random.pick(["attention", "attention", "tiled"] as const);
      await checkSpec(device, random, s, { path: fused, backward: true, frozen: random.pick([true, false]) });
    }
  });
  const f16 = "fused kernels read f16 with everything that they take, forward and backward";
  const readF16 = (device: Device) => {
    const random = createRandom(62);
    const masks = { causal: true, window: 25, prefix: [5, 0], queryStart: 11, keyLengths: [39, 30] };
    const scores = { softcap: 15, slopes: Float64Array.of(0.5, 0.25, 0.125, 0.0625), sinks: random.normals(4) };
    const bias = { shape: [1, 4, 28, 39] as const, data: random.normals(4 * 28 * 39) };
    const sizes = { B: 2, H: 4, Hkv: 2, T: 28, S: 39, D: 16, dtype: "f16" } as const;
    const s = spec({ ...sizes, ...masks, ...scores, bias });
    return checkSpec(device, random, s, { path: "attention", backward: true, frozen: true });
  };
  // One tier without shader-f16 and one with it.
  add(f16, readF16, ["core", "full"]);
  add("hard selection takes the first of equal scores, and nothing in a masked row", async (device) => {
    const random = createRandom(63);
    // Every score is 0: the first kept key is chosen, by all queries of a window past the keys none.
    const s = spec({ T: 12, S: 6, window: 4, scale: 0, selection: "hard", causal: true });
    await checkSpec(device, random, s, { path: "attention", backward: true });
  });
  add("three kernels take bias, mask and relative bias together", async (device) => {
    const random = createRandom(61);
    const shape = [1, 2, 5, 9] as const;
    const s = spec({ B: 2, S: 9, bias: { shape, data: random.normals(90) }, sinks: random.normals(2), softcap: 3 });
    const mask = { shape, data: random.normals(90), boolean: false };
    const relative = { buckets: 8, bidirectional: true, maxDistance: 16, weight: random.normals(16) };
    await checkSpec(device, random, { ...s, mask, relative }, { path: "unfused", backward: true });
  });
});
