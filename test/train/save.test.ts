import { basename } from "node:path";
import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import type { Device } from "../../src/gpu/device.ts";
import { publishedRules } from "../../src/models/head_names.ts";
import { loadWeights } from "../../src/models/load.ts";
import { openModel } from "../../src/models/registry.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { configJson, encodeModel } from "../../src/train/save.ts";
import { describeOnDevice } from "../support/devices.ts";
import { GOLDEN_NAMES, goldenPath } from "../support/goldens.ts";
import { readTestSafetensors } from "../support/safetensors.ts";
import { SEQ2SEQ_GOLDENS, seq2SeqGoldenPath } from "../support/seq2seq_goldens.ts";
import { sourceOf } from "./tiny.ts";

/** Loads a checkpoint, writes it again, and gives what was written. */
async function rewritten(device: Device, folder: string, dtype: "f32" | "f16") {
  const checkpoint = await openCheckpoint(await folderSource(folder));
  const { model } = openModel(checkpoint.config);
  const weights = await loadWeights(device, model, checkpoint, { dtype: "f32" });
  try {
    const chunks = await encodeModel(publishedRules(model, checkpoint.config), weights.tree, { dtype });
    const files = new Map<string, string | readonly Uint8Array[]>([
      ["config.json", JSON.stringify(checkpoint.config)],
      ["model.safetensors", chunks],
    ]);
    return openCheckpoint(sourceOf(files));
  } finally {
    weights.dispose();
  }
}

/** Written without the prefix of the base model, which transformers reads alike. */
const BARE = ["gpt2", "bloom", "transformer"];

describeOnDevice("saved models", (device) => {
  const folders = [...GOLDEN_NAMES.map(goldenPath), ...SEQ2SEQ_GOLDENS.map(seq2SeqGoldenPath)];
  it.each(folders.map((path) => [basename(path), path] as const))(
    "hold the tensors of the checkpoint that transformers wrote, by its names: %s",
    async (name, path) => {
      const again = await rewritten(device(), path, "f32");
      const original = readTestSafetensors(`${path}/model.safetensors`);
      expect(again.tensors.size).toBeGreaterThan(5);
      for (const [tensor, entry] of again.tensors) {
        const expected =
          original.get(tensor) ?? (BARE.includes(name) ? original.get(tensor.replace(/^\w+\./, "")) : undefined);
        const bytes = await entry.file.read(entry.start, entry.end);
        expect(entry.shape, tensor).toEqual(expected?.shape);
        const got = new Float32Array(bytes.slice().buffer);
        // Gains that a family stores less 1 have been added to 1, which rounds.
        const error = got.map((x, i) => Math.abs(x - (expected?.data[i] ?? Number.NaN)));
        expect(Math.max(...error), tensor).toBeLessThanOrEqual(name.startsWith("gemma") ? 2 ** -24 : 0);
      }
    },
  );

  it("are half as large in f16", async () => {
    const size = async (dtype: "f32" | "f16") => {
      const again = await rewritten(device(), goldenPath("gpt2"), dtype);
      return [...again.tensors.values()].reduce((sum, { start, end }) => sum + end - start, 0);
    };
    expect(await size("f16")).toBe((await size("f32")) / 2);
  });
});

it("writes as floats in config.json what was one, or is one by its name, and the dtype of what is written", () => {
  const original =
    '{"initializer_factor": 1.0, "scales": [1.0], "n": 2, "deep": {"theta": 1e4, "rope_theta": 10000.0},"layerdrop":0.0}';
  const config = { ...(JSON.parse(original) as object), dtype: "bfloat16", attention_dropout: 0, layer_norm_eps: 1e-5 };
  const text = configJson(config, { original });
  expect(JSON.parse(text)).toEqual({ ...config, dtype: "float32" });
  const fields = ["initializer_factor", "theta", "rope_theta", "layerdrop", "attention_dropout", "layer_norm_eps", "n"];
  expect(fields.map((name) => new RegExp(`"${name}": ([^,\\n]+)`).exec(text)?.[1])).toEqual([
    ...["1.0", "10000.0", "10000.0", "0.0", "0.0", "0.00001", "2"],
  ]);
  expect(JSON.parse(configJson({ torch_dtype: "float32" }, { dtype: "f16" }))).toEqual({ torch_dtype: "float16" });
});
