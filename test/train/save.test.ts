import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import type { Device } from "../../src/gpu/device.ts";
import { loadWeights } from "../../src/models/load.ts";
import { openModel } from "../../src/models/registry.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { encodeModel } from "../../src/train/save.ts";
import { describeOnDevice } from "../support/devices.ts";
import { GOLDEN_NAMES, goldenPath } from "../support/goldens.ts";
import { readTestSafetensors } from "../support/safetensors.ts";
import { sourceOf } from "./tiny.ts";

/** Loads a checkpoint, writes it again, and gives what was written. */
async function rewritten(device: Device, folder: string, dtype: "f32" | "f16") {
  const checkpoint = await openCheckpoint(await folderSource(folder));
  const { model } = openModel(checkpoint.config);
  const weights = await loadWeights(device, model, checkpoint, { dtype: "f32" });
  try {
    const chunks = await encodeModel(model.rules, weights.tree, { dtype });
    const files = new Map<string, string | readonly Uint8Array[]>([
      ["config.json", JSON.stringify(checkpoint.config)],
      ["model.safetensors", chunks],
    ]);
    return { again: await openCheckpoint(sourceOf(files)), prefixes: ["", ...model.prefixes] };
  } finally {
    weights.dispose();
  }
}

describeOnDevice("saved models", (device) => {
  it.each(GOLDEN_NAMES)("hold the tensors of the checkpoint that they were loaded from: %s", async (name) => {
    const { again, prefixes } = await rewritten(device(), goldenPath(name), "f32");
    const original = readTestSafetensors(`${goldenPath(name)}/model.safetensors`);
    expect(again.tensors.size).toBeGreaterThan(5);
    for (const [tensor, entry] of again.tensors) {
      const [expected] = prefixes.flatMap((prefix) => original.get(prefix + tensor) ?? []);
      const bytes = await entry.file.read(entry.start, entry.end);
      expect(entry.shape, tensor).toEqual(expected?.shape);
      const got = new Float32Array(bytes.slice().buffer);
      // Gains that a family stores less 1 have been added to 1, which rounds.
      const error = got.map((x, i) => Math.abs(x - (expected?.data[i] ?? Number.NaN)));
      expect(Math.max(...error), tensor).toBeLessThanOrEqual(name.startsWith("gemma") ? 2 ** -24 : 0);
    }
  });

  it("are half as large in f16", async () => {
    const size = async (dtype: "f32" | "f16") => {
      const { again } = await rewritten(device(), goldenPath("gpt2"), dtype);
      return [...again.tensors.values()].reduce((sum, { start, end }) => sum + end - start, 0);
    };
    expect(await size("f16")).toBe((await size("f32")) / 2);
  });
});
