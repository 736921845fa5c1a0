import type { Device } from "../../src/gpu/device.ts";
import type { AttentionOptions } from "../../src/ops/attention.ts";
import { opCases } from "../support/op_cases.ts";
import { countKeyLoads } from "./attention_work_support.ts";

const LENGTH = 1024;
const SIZES = {
  batch: 1,
  heads: 1,
  kvHeads: 1,
  headDim: 4,
  queryLength: LENGTH,
  keyLength: LENGTH,
  layout: "bhtd",
} as const;

/** Most that a masked call may load of what the full one loads. */
const BOUNDS: readonly { readonly name: string; readonly mask: Partial<AttentionOptions>; readonly most: number }[] = [
  { name: "causal", mask: { causal: true }, most: 0.65 },
  { name: "a window of 128", mask: { window: 128, causal: true }, most: 0.3 },
  { name: "a window of 64 on both sides", mask: { window: { left: 63, right: 64 } }, most: 0.3 },
  { name: "key lengths of a quarter", mask: { keyLengths: LENGTH / 4 }, most: 0.3 },
  { name: "a causal mask after a prefix of 128", mask: { causal: true, prefix: 128 }, most: 0.65 },
];

async function checkShares(
  device: Device,
  direction: "forward" | "backward",
  kernel?: "tiled" | "lanes",
): Promise<void> {
  const count = (mask: Partial<AttentionOptions>) => countKeyLoads(device, direction, { ...SIZES, ...mask, kernel });
  const full = await count({});
  // Were nothing counted, every share would be small: each key is loaded by some workgroup, one vec4 each.
  if (full < LENGTH) throw new Error(`attention ${direction}: ${full} loads of ${LENGTH} keys counted without a mask`);
  for (const { name, mask, most } of BOUNDS) {
    const share = (await count(mask)) / full;
    if (!(share > 0 && share <= most)) {
      throw new Error(
        `attention ${direction}, kernel ${kernel}: ${name} loads ${share} of all key tiles, at most ${most}`,
      );
    }
  }
}

export const cases = opCases("attention (work)", (add) => {
  const what = `visits no tile that the mask rules out, counted at T = S = ${LENGTH}`;
  for (const kernel of ["lanes", "tiled"] as const) {
    add(`the ${kernel} kernel ${what}`, (device) => checkShares(device, "forward", kernel));
  }
  add(`backward ${what}`, (device) => checkShares(device, "backward"));
});
