import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import type { TextModel } from "../../src/tasks/text_model.ts";
import { describeOnTiers } from "../support/devices.ts";

const WRITER = new URL("../fixtures/write_tiny_llama.mjs", import.meta.url).pathname;
const LAYERS = 2;
/** A CPU adapter runs each norm on its own, once, instead of in each workgroup of the product that follows. */
const MOST_PER_LAYER = { software: 8, gpu: 6 };

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "heed-describe-"));
  execFileSync(process.execPath, [WRITER, folder]);
});
afterAll(() => rmSync(folder, { recursive: true }));

await describeOnTiers("a llama decode step", (engine) => {
  let model: TextModel;
  beforeAll(async () => {
    model = await engine().load(folder);
  });
  afterAll(() => model?.dispose());

  it("takes few dispatches a layer, in one pass", async () => {
    const description = await model.describe();
    const most = engine().facts.software ? MOST_PER_LAYER.software : MOST_PER_LAYER.gpu;
    expect(description.passes).toBe(1);
    for (let i = 0; i < LAYERS; i++) expect(description.dispatchesByScope[`block.${i}`]).toBeLessThanOrEqual(most);
    // Outside the layers: embedding, last norm, head, and what samples.
    expect(description.dispatches).toBeLessThanOrEqual(LAYERS * most + 6);
    expect(String(description)).toContain(`${description.dispatches} dispatches in 1 pass`);
  });

  it("takes fewer where the adapter is a GPU, whose kernels norm what they multiply", async () => {
    const { device } = engine();
    await withFacts(device, { software: false }, async () => {
      const twin = await engine().load(folder);
      try {
        const { dispatchesByScope, kernels } = await twin.describe();
        const list = kernels.map((k) => k.label).join("\n");
        for (let i = 0; i < LAYERS; i++)
          expect(dispatchesByScope[`block.${i}`], list).toBeLessThanOrEqual(MOST_PER_LAYER.gpu);
      } finally {
        await twin.dispose();
      }
    });
  });

  it("allocates nothing for a token", async () => {
    const { device } = engine();
    await model.generate([1, 2, 3], { greedy: true, maxTokens: 4 }).result;
    const created = device.buffersCreated;
    const pipelines = device.pipelineCount;
    const { ids } = await model.generate([1, 2, 3], { greedy: true, maxTokens: 40 }).result;
    expect(ids.generated.length).toBeGreaterThan(4);
    expect(device.buffersCreated - created).toBe(0);
    expect(device.pipelineCount - pipelines).toBe(0);
  });

  it("reuses the memory of intermediates", async () => {
    const { bytes } = await model.describe({ sequences: 4 });
    const slabs = bytes.slabs.reduce((a, b) => a + b, 0);
    expect(slabs).toBeGreaterThan(0);
    expect(slabs).toBeLessThan(bytes.withoutReuse / 2);
  });
});

/** Runs `body` as if the device had other facts: kernels and fusions are chosen by them. */
async function withFacts(device: Device, facts: Partial<Device["facts"]>, body: () => Promise<void>): Promise<void> {
  const real = { ...device.facts };
  Object.assign(device.facts, facts);
  try {
    await body();
  } finally {
    Object.assign(device.facts, real);
  }
}
