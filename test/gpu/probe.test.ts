import { describe, expect, it } from "vitest";
import { Device } from "../../src/gpu/device.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { measureSpeed } from "../../src/gpu/probe.ts";

describe("measureSpeed", () => {
  it("finds both speeds within its budget and leaves nothing allocated", async () => {
    const device = await Device.request({ gpu: await nodeGpu(), tier: "core" });
    try {
      const speed = await measureSpeed(device, { budgetMs: 1000 });
      // A laptop core gives above 1, the fastest card below 10^6.
      expect(speed.fmaGflops).toBeGreaterThan(0.1);
      expect(speed.fmaGflops).toBeLessThan(1e6);
      expect(speed.copyGBs).toBeGreaterThan(0.05);
      expect(speed.copyGBs).toBeLessThan(1e5);
      expect(device.buffersInUse).toBe(0);
    } finally {
      device.dispose();
    }
  });

  it("stops when its signal fires", async () => {
    const device = await Device.request({ gpu: await nodeGpu(), tier: "core" });
    try {
      await expect(measureSpeed(device, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ABORTED" });
      expect(device.buffersInUse).toBe(0);
    } finally {
      device.dispose();
    }
  });
});
