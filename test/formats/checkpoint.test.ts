import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { encodeSafetensors, type TensorToWrite } from "../../src/formats/safetensors_write.ts";
import { readTensorF32 } from "../../src/formats/stream_tensor.ts";
import { filesSource } from "../../src/sources/files.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import type { Source } from "../../src/core/source.ts";
import { describeWithAssets } from "../support/assets.ts";

const CONFIG = '{"model_type":"llama"}';
const INDEX = "model.safetensors.index.json";

function shard(values: Record<string, number[]>): Blob {
  const tensors = Object.entries(values).map(([name, data]): [string, TensorToWrite] => {
    return [name, { format: "f32", shape: [data.length], data: Float32Array.from(data) }];
  });
  return new Blob(encodeSafetensors(new Map(tensors)) as Uint8Array<ArrayBuffer>[]);
}

function sourceOf(files: Record<string, string | Blob>): Source {
  return filesSource(new Map(Object.entries(files).map(([name, content]) => [name, new Blob([content])])));
}

function index(weightMap: unknown): string {
  return JSON.stringify({ metadata: { total_size: 16 }, weight_map: weightMap });
}

const SHARDED = {
  "config.json": CONFIG,
  [INDEX]: index({ a: "model-00001-of-00002.safetensors", b: "model-00002-of-00002.safetensors" }),
  "model-00001-of-00002.safetensors": shard({ a: [1, 2] }),
  "model-00002-of-00002.safetensors": shard({ b: [3, 4] }),
};

describe("openCheckpoint", () => {
  it("opens a single file with both configs", async () => {
    const files = {
      "config.json": CONFIG,
      "generation_config.json": '{"eos_token_id":2}',
      "model.safetensors": shard({ a: [1, 2] }),
    };
    const checkpoint = await openCheckpoint(sourceOf(files));
    expect(checkpoint.config).toEqual({ model_type: "llama" });
    expect(checkpoint.generationConfig).toEqual({ eos_token_id: 2 });
    expect([...checkpoint.tensors.keys()]).toEqual(["a"]);
  });

  it("opens shards by their index", async () => {
    const { tensors, generationConfig } = await openCheckpoint(sourceOf(SHARDED));
    expect(generationConfig).toBeUndefined();
    expect([...tensors.keys()]).toEqual(["a", "b"]);
    const b = tensors.get("b");
    expect(b && [...(await readTensorF32(b))]).toEqual([3, 4]);
  });

  it.each([
    ["no config.json", { "tokenizer.json": "{}" }, /config\.json is needed; got only tokenizer\.json in 1 chosen file/],
    ["no files at all", {}, /config\.json is needed; got no files/],
    [
      "a pointer in place of a config",
      { "config.json": "version https://git-lfs.github.com/spec/v1\noid sha256:00\n" },
      /must be a JSON object; got a Git LFS pointer.*git lfs pull/,
    ],
    ["a page in place of a config", { "config.json": " <!DOCTYPE html><html>" }, /got a web page.*\/resolve\//],
    ["a config that is no JSON", { "config.json": "{" }, /config\.json .*must be a JSON object; got SyntaxError/],
    ["a config that is an array", { "config.json": "[]" }, /must be a JSON object; got an array/],
    ["a config of 5 MB", { "config.json": " ".repeat(5e6) }, /at most 4194304 bytes; got 5000000/],
    ["a config that is not UTF-8", { "config.json": new Blob([Uint8Array.of(0xff, 0xfe)]) }, /must be UTF-8/],
    [
      "no weights",
      { "config.json": CONFIG },
      /model\.safetensors, pytorch_model\.bin or an index of their shards is needed; got only config\.json/,
    ],
    [
      "weights of another format",
      { "config.json": CONFIG, "model.onnx": "" },
      /model\.onnx is of a format that is not read here: use safetensors/,
    ],
    [
      "damaged weights",
      { "config.json": CONFIG, "model.safetensors": "x" },
      /safetensors: .*got 1 in model\.safetensors/,
    ],
    ["an index without weight_map", { ...SHARDED, [INDEX]: "{}" }, /weight_map must be an object/],
    ["an empty weight_map", { ...SHARDED, [INDEX]: index({}) }, /at least one tensor/],
    [
      "a weight_map of numbers",
      { ...SHARDED, [INDEX]: index({ a: 1 }) },
      /the file of "a" must be a \.safetensors file; got 1/,
    ],
    [
      "a shard outside the folder",
      { ...SHARDED, [INDEX]: index({ a: "../../x.safetensors" }) },
      /relative path inside its source; got "\.\.\/\.\.\/x/,
    ],
    ["a shard at the root", { ...SHARDED, [INDEX]: index({ a: "/etc/x.safetensors" }) }, /relative path/],
    [
      "a shard that is no safetensors",
      { ...SHARDED, [INDEX]: index({ a: "config.json" }) },
      /must be a \.safetensors file; got "config\.json"/,
    ],
    [
      "a missing shard",
      { ...SHARDED, [INDEX]: index({ a: "other.safetensors" }) },
      /other\.safetensors, a shard that .* names, is needed/,
    ],
    [
      "a tensor that its shard lacks",
      { ...SHARDED, [INDEX]: index({ a: "model-00001-of-00002.safetensors", c: "model-00002-of-00002.safetensors" }) },
      /model-00002-of-00002\.safetensors must hold "c"/,
    ],
    [
      "a tensor that the index lacks",
      { ...SHARDED, "model-00002-of-00002.safetensors": shard({ b: [3, 4], c: [5] }) },
      /weight_map must name every tensor of model-00002-of-00002\.safetensors there; got "c"/,
    ],
    [
      "a tensor in two shards",
      { ...SHARDED, "model-00002-of-00002.safetensors": shard({ a: [0], b: [3, 4] }) },
      /got "a" in the shard only/,
    ],
  ] as [string, Record<string, string | Blob>, RegExp][])("refuses %s", async (_, files, message) => {
    const error = await openCheckpoint(sourceOf(files)).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "BAD_FILE" });
    expect((error as Error).message).toMatch(message);
  });

  it("does not let a config reach the prototype of objects", async () => {
    const files = { "config.json": '{"__proto__":{"polluted":1}}', "model.safetensors": shard({ a: [1] }) };
    await openCheckpoint(sourceOf(files));
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it("is stopped by its signal", async () => {
    const work = openCheckpoint(sourceOf(SHARDED), { signal: AbortSignal.abort() });
    await expect(work).rejects.toMatchObject({ code: "ABORTED" });
  });
});

describeWithAssets("openCheckpoint on stories260K", "models/stories260K", (folder) => {
  it("opens it", async () => {
    const { config, generationConfig, tensors } = await openCheckpoint(await folderSource(folder));
    expect(config.model_type).toBe("llama");
    expect(generationConfig).toBeDefined();
    expect(tensors.size).toBe(47);
    expect(tensors.get("model.embed_tokens.weight")).toMatchObject({ format: "f32", shape: [512, 64] });
    const norm = tensors.get("model.norm.weight");
    const values = norm && (await readTensorF32(norm));
    expect(values?.every((v) => Number.isFinite(v) && v !== 0)).toBe(true);
  });
});

describeWithAssets("openCheckpoint on moonshine-tiny", "models/moonshine-tiny", (folder) => {
  it("reads every tensor", async () => {
    const { tensors } = await openCheckpoint(await folderSource(folder));
    expect(tensors.size).toBe(160);
    let elements = 0;
    for (const entry of tensors.values()) {
      const values = await readTensorF32(entry);
      expect(values.every(Number.isFinite), entry.name).toBe(true);
      elements += values.length;
    }
    expect(elements).toBeGreaterThan(27e6);
  });
});
