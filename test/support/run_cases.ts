import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Device } from "../../src/gpu/device.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { availableTiers, TIERS } from "../../src/gpu/tiers.ts";
import type { OpCase } from "./op_cases.ts";

/** Registers every case on every tier: a tier that the adapter lacks is skipped by name, a missing adapter fails. */
export async function runCases(cases: readonly OpCase[]): Promise<void> {
  const adapter = await (await nodeGpu()).requestAdapter();
  if (!adapter) throw new Error("no WebGPU adapter: run the tests with `npm test`, which finds a driver");
  const available = availableTiers(adapter);
  for (const tier of TIERS) {
    describe.skipIf(!available.includes(tier))(`tier ${tier}`, () => {
      let device: Device;
      beforeAll(async () => {
        device = await Device.request({ gpu: await nodeGpu(), tier });
      });
      afterAll(() => device?.dispose());
      for (const c of cases) {
        it.skipIf(c.tiers && !c.tiers.includes(tier))(`${c.op} › ${c.title}`, async () => {
          const before = { buffers: device.buffersInUse, bytes: device.bytesInUse };
          await c.run(device);
          await device.idle();
          expect({ buffers: device.buffersInUse, bytes: device.bytesInUse }).toEqual(before);
        });
      }
    });
  }
}
