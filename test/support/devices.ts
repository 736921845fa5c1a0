import { afterAll, beforeAll, describe, expect } from "vitest";
import { Device } from "../../src/gpu/device.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { availableTiers, type Tier, TIERS } from "../../src/gpu/tiers.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";

/** The tiers that this machine's adapter has; throws where there is no adapter, because a missing one must fail. */
export async function machineTiers(): Promise<Tier[]> {
  const adapter = await (await nodeGpu()).requestAdapter();
  if (!adapter) throw new Error("no WebGPU adapter: run the tests with `npm test`, which finds a driver");
  return availableTiers(adapter);
}

/** Runs `body` once per tier, with an engine of its own; tiers that the adapter lacks are skipped by name. */
export async function describeOnTiers(name: string, body: (engine: () => Engine, tier: Tier) => void): Promise<void> {
  const available = await machineTiers();
  for (const tier of TIERS) {
    describe.skipIf(!available.includes(tier))(`${name} on tier ${tier}`, () => {
      let engine: Engine;
      beforeAll(async () => {
        engine = await createEngineWith({ gpu: await nodeGpu(), tier }, openSource);
      });
      afterAll(async () => {
        await engine?.dispose();
        expect(engine?.device.buffersInUse ?? 0).toBe(0);
      });
      body(() => engine, tier);
    });
  }
}

/** Runs `body` with one device of the highest tier. */
export function describeOnDevice(name: string, body: (device: () => Device) => void): void {
  describe(name, () => {
    let device: Device;
    beforeAll(async () => {
      device = await Device.request({ gpu: await nodeGpu() });
    });
    afterAll(() => device?.dispose());
    body(() => device);
  });
}
