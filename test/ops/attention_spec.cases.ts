import { opCases } from "../support/op_cases.ts";
import { createRandom, testSeed } from "../support/random.ts";
import { checkSpec, drawSpec, spec } from "./attention_spec_support.ts";

const SEEDS = { core: 400, subgroups: 401, f16: 402, full: 403 };

export const cases = opCases("attention (specification)", (add) => {
  add("three kernels match the reference on 50 drawn specifications, forward and backward", async (device) => {
    const random = createRandom(testSeed(`three kernels on ${device.facts.tier}`, SEEDS[device.facts.tier]));
    for (let i = 0; i < 50; i++) await checkSpec(device, random, drawSpec(random), { path: "unfused", backward: true });
  });
  add("fused kernels match the reference on 50 drawn specifications, forward and backward", async (device) => {
    const random = createRandom(testSeed(`fused kernels on ${device.facts.tier}`, SEEDS[device.facts.tier] + 10));
    for (let i = 0; i < 50; i++) {
      const s = drawSpec(random);
      // f16 with one kernel only: each pipeline costs seconds at its first dispatch.
      const isUnfused = s.selection === "hard" || s.dropout || (s.bias && s.mask && s.relative) || s.dtype === "f16";
      const fused = isUnfused ? "attention" : random.pick(["attention", "attention", "tiled"] as const);
      await checkSpec(device, random, s, { path: fused, backward: true });
    }
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
