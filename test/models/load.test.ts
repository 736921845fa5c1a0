import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { isHeedError, type HeedErrorCode } from "../../src/core/errors.ts";
import { encodeSafetensors } from "../../src/formats/safetensors_write.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";
import { assertClose } from "../support/close.ts";
import { goldenPath } from "../support/goldens.ts";
import { readTestSafetensors } from "../support/safetensors.ts";
import { tolerance } from "../support/tolerances.ts";

let engine: Engine;
let folder: string;
beforeAll(async () => {
  engine = await createEngineWith({ gpu: await nodeGpu() }, openSource);
});
afterAll(() => engine?.dispose());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "heed-load-"));
  cpSync(goldenPath("llama_gqa"), folder, { recursive: true });
});
afterEach(() => rmSync(folder, { recursive: true }));

function editConfig(change: (config: Record<string, unknown>) => void): void {
  const path = join(folder, "config.json");
  const config = JSON.parse(readFileSync(path, "utf8"));
  change(config);
  writeFileSync(path, JSON.stringify(config));
}

type Tensors = Map<string, { shape: number[]; data: Float32Array }>;

function editTensors(change: (tensors: Tensors) => void): void {
  const path = join(folder, "model.safetensors");
  const tensors = new Map(
    [...readTestSafetensors(path)].map(([name, t]) => [name, { shape: [...t.shape], data: t.data }]),
  );
  change(tensors);
  const encoded = encodeSafetensors(
    new Map(
      [...tensors].map(([name, { shape, data }]) => [
        name,
        { format: "f32" as const, shape, data: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) },
      ]),
    ),
  );
  writeFileSync(path, Buffer.concat([...encoded]));
}

async function expectRefusal(code: HeedErrorCode, message: RegExp): Promise<void> {
  const before = { buffers: engine.device.buffersInUse, bytes: engine.device.bytesInUse };
  const error = await engine.load(folder).then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(isHeedError(error) ? `${error.code}: ${error.message}` : error).toMatch(message);
  expect(error).toMatchObject({ code });
  expect({ buffers: engine.device.buffersInUse, bytes: engine.device.bytesInUse }).toEqual(before);
}

it("loads the untouched checkpoint", async () => {
  const model = await engine.load(folder);
  expect(model.family).toBe("llama");
  await model.dispose();
});

it("refuses an unknown architecture, naming those that it knows", async () => {
  editConfig((c) => {
    c.model_type = "mamba";
  });
  await expectRefusal("UNSUPPORTED", /"mamba".*gpt2, .*llama/);
});

it("refuses a missing tensor, by name", async () => {
  editTensors((t) => t.delete("model.layers.1.mlp.down_proj.weight"));
  await expectRefusal("BAD_FILE", /layers\.1\.mlp\.down_proj\.weight/);
});

it("names the head that the weights lack", async () => {
  editTensors((t) => t.delete("lm_head.weight"));
  await expectRefusal("BAD_FILE", /lm_head\.weight.*head that config\.json promises \(LlamaForCausalLM\).*without it/);
});

it("refuses weights that another program packed, by its name", async () => {
  editConfig((c) => {
    c.quantization_config = { quant_method: "gptq", bits: 4 };
  });
  await expectRefusal("UNSUPPORTED", /quantised by gptq.*--dtype q8_0.*GGUF/);
});

it("refuses a misshapen tensor, with both shapes", async () => {
  editTensors((t) => {
    const norm = t.get("model.norm.weight");
    if (norm) t.set("model.norm.weight", { shape: [norm.data.length - 1], data: norm.data.slice(1) });
  });
  await expectRefusal("BAD_FILE", /model\.norm\.weight must be \[\d+\]; got \[\d+\]/);
});

it("refuses tensors that the architecture would not use", async () => {
  editTensors((t) => t.set("model.layers.0.self_attn.q_norm.weight", { shape: [4], data: new Float32Array(4) }));
  await expectRefusal("UNSUPPORTED", /q_norm/);
});

it("refuses a truncated file", async () => {
  truncateSync(join(folder, "model.safetensors"), 4000);
  await expectRefusal("BAD_FILE", /safetensors/);
});

it("refuses a header that lies about offsets", async () => {
  const path = join(folder, "model.safetensors");
  const bytes = readFileSync(path);
  const text = bytes.toString("latin1");
  const at = text.indexOf('data_offsets":[0,');
  bytes[at + 'data_offsets":[0,'.length] = "9".charCodeAt(0);
  writeFileSync(path, bytes);
  await expectRefusal("BAD_FILE", /safetensors/);
});

it("refuses a config without a size, naming the field", async () => {
  editConfig((c) => {
    delete c.hidden_size;
  });
  await expectRefusal("BAD_FILE", /hidden_size/);
});

it("refuses key heads that do not divide the query heads", async () => {
  editConfig((c) => {
    c.num_key_value_heads = 3;
  });
  await expectRefusal("BAD_FILE", /num_key_value_heads/);
});

it("refuses a rope type that it lacks, and one without its factor", async () => {
  editConfig((c) => {
    c.rope_scaling = { rope_type: "spiral" };
    delete c.rope_parameters;
  });
  await expectRefusal("UNSUPPORTED", /spiral/);
  editConfig((c) => {
    c.rope_scaling = { rope_type: "linear" };
  });
  await expectRefusal("BAD_FILE", /factor/);
});

it("refuses a wrong load option and frees everything when aborted", async () => {
  await expect(engine.load(folder, { cacheTokens: 0 })).rejects.toMatchObject({ code: "USAGE" });
  const before = engine.device.buffersInUse;
  await expect(engine.load(folder, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "ABORTED" });
  const controller = new AbortController();
  const loading = engine.load(folder, { signal: controller.signal, onProgress: () => controller.abort() });
  await expect(loading).rejects.toMatchObject({ code: "ABORTED" });
  expect(engine.device.buffersInUse).toBe(before);
});

it("makes the rotary table for the cache's context, not for all positions that the config allows", async () => {
  const small = await engine.load(folder, { cacheTokens: 64 });
  const held = engine.device.bytesInUse;
  await small.dispose();
  editConfig((c) => {
    c.max_position_embeddings = 1 << 22;
  });
  const long = await engine.load(folder, { cacheTokens: 64 });
  expect(long.contextLength).toBe(64);
  // Only the page table and the like may differ; the whole table would be hundreds of megabytes.
  expect(engine.device.bytesInUse).toBeLessThanOrEqual(held + 4096);
  await long.dispose();
});

it("refuses what the cache cannot hold at load, with nothing left", async () => {
  const before = engine.device.buffersInUse;
  await expect(engine.load(folder, { maxSequences: 5e7 })).rejects.toMatchObject({ code: "USAGE" });
  await expect(engine.load(folder, { cacheTokens: 1 << 29 })).rejects.toMatchObject({ code: "LIMIT" });
  expect(engine.device.buffersInUse).toBe(before);
});

it("refuses stop strings without a tokenizer, and a temperature of 0 with a choice among tokens", async () => {
  const model = await engine.load(folder);
  expect(model.tokenizer).toBeUndefined();
  expect(() => model.generate([1, 2], { stop: "x" })).toThrowError(/stop strings need tokenizer\.json/);
  expect(() => model.generate([1, 2], { temperature: 0, topK: 5 })).toThrowError(/temperature of 0 takes no topK/);
  await model.dispose();
});

it("reports progress up to the whole", async () => {
  const seen: number[] = [];
  const model = await engine.load(folder, {
    onProgress: ({ loadedBytes, totalBytes }) => seen.push(loadedBytes / totalBytes),
  });
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
  expect(seen.at(-1)).toBe(1);
  await model.dispose();
});

it("computes nearly the same from matrices rounded to f16, on half the bytes", async () => {
  const [full, half] = [await engine.load(folder, { dtype: "f32" }), await engine.load(folder, { dtype: "f16" })];
  const [exact, rounded] = await Promise.all([full.logits([1, 2, 3]), half.logits([1, 2, 3])]);
  for (const [i, row] of exact.entries()) {
    assertClose(rounded[i] as Float32Array, row, { ...tolerance("f16", "logits"), label: `row ${i}` });
  }
  await half.dispose();
  await full.dispose();
});
