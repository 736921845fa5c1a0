import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";
import type { TextModel } from "../../src/tasks/text_model.ts";
import { assertClose } from "../support/close.ts";
import { gpt2Reference } from "../support/gpt2_reference.ts";
import { readTestCheckpoint } from "../support/safetensors.ts";
import { tolerance } from "../support/tolerances.ts";

const WRITER = new URL("../fixtures/write_gpt2.mjs", import.meta.url).pathname;
const SIZES = { n_layer: 12, n_head: 12, n_embd: 768, vocab_size: 50257, layer_norm_epsilon: 1e-5 };
const EMBEDDING_BYTES = SIZES.vocab_size * SIZES.n_embd * 4;
const IDS = [464, 3290, 50256, 0, 318, 12345, 50255, 7];
/** What a load may add to heap and array buffers, whatever the checkpoint's size. */
const MOST_LOAD_BYTES = 64 << 20;

const hostBytes = () => {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
};

describe("GPT-2 124M with random weights", () => {
  let folder: string;
  let engine: Engine;
  let model: TextModel;
  let peakHostBytes = 0;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "heed-gpt2-"));
    execFileSync(process.execPath, [WRITER, folder]);
    engine = await createEngineWith({ gpu: await nodeGpu() }, openSource);
    const before = hostBytes();
    const onProgress = () => {
      peakHostBytes = Math.max(peakHostBytes, hostBytes() - before);
    };
    model = await engine.load(folder, { onProgress, cacheTokens: 64, maxSequences: 1 });
  });
  afterAll(async () => {
    await engine?.dispose();
    rmSync(folder, { recursive: true, force: true });
    expect(engine?.device.buffersInUse).toBe(0);
  });

  it("loads 498 MB without holding them on the host", () => {
    expect(engine.device.bytesInUse).toBeGreaterThan(490e6);
    expect(peakHostBytes).toBeGreaterThan(0);
    expect(peakHostBytes).toBeLessThan(MOST_LOAD_BYTES);
  });

  it("splits the embedding where it exceeds a binding", async () => {
    const parts = Math.ceil(EMBEDDING_BYTES / engine.device.raw.limits.maxStorageBufferBindingSize);
    expect((await model.describe()).dispatchesByScope["head"]).toBe(parts);
  });

  it("computes the logits that float64 does, and decodes what they say", async () => {
    const actual = await model.logits(IDS);
    const next = await model.generate(IDS, { greedy: true, maxTokens: 1 }).result;
    const { tensors } = readTestCheckpoint(folder);
    const { logits } = gpt2Reference(tensors, SIZES, IDS);
    const { vocab_size: V } = SIZES;
    const { atol, rtol } = tolerance("f32", "logits");
    for (let row = 0; row < IDS.length; row++) {
      const expected = logits.subarray(row * V, (row + 1) * V);
      assertClose(actual[row]!, expected, { atol, rtol, label: `logits[${row}]` });
    }
    expect(next.ids.generated).toEqual([argmax(logits.subarray((IDS.length - 1) * V))]);
  });
});

function argmax(values: Float64Array): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}
