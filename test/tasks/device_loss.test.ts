import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith } from "../../src/tasks/engine.ts";
import { createRandom, testSeed } from "../support/random.ts";

const WRITER = new URL("../fixtures/write_tiny_llama.mjs", import.meta.url).pathname;

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "heed-loss-"));
  try {
    execFileSync(process.execPath, [WRITER, folder]);
    await body(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

it("rejects every pending call with DEVICE_LOST, and a new engine works", () =>
  withFolder(async (folder) => {
    const random = createRandom(testSeed("device loss", 9));
    for (let trial = 0; trial < 5; trial++) {
      const engine = await createEngineWith({ gpu: await nodeGpu() }, openSource);
      const model = await engine.load(folder);
      const pending = [1, 2, 3].map((seed) => model.generate("Hello", { maxTokens: 200, temperature: 1, seed }).result);
      const settled = Promise.allSettled(pending);
      await new Promise((r) => setTimeout(r, random.uniform() * 60));
      engine.device.raw.destroy();
      const lostAt = performance.now();
      for (const s of await settled) {
        expect(s.status).toBe("rejected");
        if (s.status === "rejected") expect(s.reason).toMatchObject({ code: "DEVICE_LOST" });
      }
      expect(performance.now() - lostAt).toBeLessThan(2000);
      await expect(model.generate("Hello").result).rejects.toMatchObject({ code: "DEVICE_LOST" });
      await engine.dispose();
    }
    const engine = await createEngineWith({ gpu: await nodeGpu() }, openSource);
    const model = await engine.load(folder);
    expect((await model.generate("Hello", { greedy: true, maxTokens: 3 }).result).ids.generated).toHaveLength(3);
    await engine.dispose();
  }));

it("uses a caller's device and never destroys it", () =>
  withFolder(async (folder) => {
    const adapter = await (await nodeGpu()).requestAdapter();
    const device = await adapter?.requestDevice();
    if (!device) throw new Error("no adapter");
    for (let round = 0; round < 2; round++) {
      const engine = await createEngineWith({ device }, openSource);
      expect(engine.facts.tier).toBe("core");
      const model = await engine.load(folder);
      expect((await model.generate("Hello", { greedy: true, maxTokens: 3 }).result).ids.generated).toHaveLength(3);
      await engine.dispose();
    }
    const buffer = device.createBuffer({ size: 4, usage: GPUBufferUsage.COPY_DST });
    expect(buffer.size).toBe(4);
    const lost = await Promise.race([device.lost, new Promise((r) => setTimeout(() => r("alive"), 50))]);
    expect(lost).toBe("alive");
    device.destroy();
  }));
