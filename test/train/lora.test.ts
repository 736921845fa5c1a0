import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import type { Device } from "../../src/gpu/device.ts";
import { Tensor } from "../../src/gpu/tensor.ts";
import { loadWeights } from "../../src/models/load.ts";
import { type LoraLayer, linearModules, loraScale } from "../../src/models/lora.ts";
import { encodeLora } from "../../src/models/lora_files.ts";
import { readLora } from "../../src/models/lora_read.ts";
import { openDecoder } from "../../src/models/registry.ts";
import { weightPlaces } from "../../src/models/weight_places.ts";
import { filesSource } from "../../src/sources/files.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { languageModelObjective } from "../../src/train/losses.ts";
import { createLora, withLora } from "../../src/train/lora.ts";
import { TrainingStep } from "../../src/train/training_step.ts";
import { type AssetArray, decodeArray, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice } from "../support/devices.ts";
import { goldenPath } from "../support/goldens.ts";

interface Expected {
  ids: number[];
  logits: AssetArray;
  loss: number;
  gradients: Record<string, AssetArray>;
}

const NAMES = ["llama_gqa", "gpt2", "gpt_neox"] as const;

function loraPath(name: string): string {
  return fileURLToPath(new URL(`../fixtures/lora/${name}`, import.meta.url));
}

async function open(device: Device, name: (typeof NAMES)[number]) {
  const checkpoint = await openCheckpoint(await folderSource(goldenPath(name)));
  const decoder = openDecoder(checkpoint.config);
  const weights = await loadWeights(device, decoder, checkpoint, { dtype: "f32" });
  const places = weightPlaces(decoder, weights.tree, checkpoint.config);
  return { decoder, weights, places, modules: linearModules(decoder, weights.tree, checkpoint.config) };
}

/** PEFT's adapter of a golden checkpoint on the GPU. */
async function loadGolden(device: Device, name: (typeof NAMES)[number]) {
  const model = await open(device, name);
  const { modules, places, decoder } = model;
  const base = { modules, places, prefixes: decoder.prefixes, ignored: decoder.ignored, sharesTable: false };
  const lora = await readLora(await folderSource(loraPath(name)), base);
  const layers: LoraLayer[] = lora.layers.map(({ module, a, b }) => ({
    module,
    a: Tensor.from(device, `${module.name}.lora_A`, [lora.config.rank, module.columns], "f32", a),
    b: Tensor.from(device, `${module.name}.lora_B`, [module.rows, lora.config.rank], "f32", b),
    scale: loraScale(lora.config),
  }));
  return { ...model, config: lora.config, layers };
}

function batchOf(ids: readonly number[]) {
  const tokens = Uint32Array.from(ids);
  const targets = Int32Array.from(ids, (_, i) => ids[i + 1] ?? -100);
  return {
    shape: { batch: 1, length: ids.length },
    inputs: { tokens, targets },
    count: ids.length - 1,
    tokens: ids.length,
  };
}

describeOnDevice("lora", (device) => {
  it.each(NAMES)("has PEFT's loss and gradients, and trains nothing else: %s", async (name) => {
    const expected = readJson<Expected>(join(loraPath(name), "expected.json"));
    const { decoder, weights, layers, config } = await loadGolden(device(), name);
    const objective = withLora(languageModelObjective(decoder, weights.tree), { layers, config });
    const parameters = layers
      .flatMap(({ a, b }) => [a, b])
      .map((tensor) => ({ name: tensor.label, tensor, decays: false }));
    const step = new TrainingStep(device(), { objective, parameters, optimizer: { type: "sgd", clip: 0 } });
    const before = await encodeLora(layers, config);
    const batch = batchOf(expected.ids);
    expect((await step.evaluate([batch])).loss).toBeCloseTo(expected.loss, 5);
    // One step of plain gradient descent at rate 1 takes each gradient away.
    await step.run([batch], { learningRate: 1 });
    const after = await encodeLora(layers, config);
    const [old, now] = await Promise.all([before, after].map((files) => readBack(files, name)));
    let seen = 0;
    for (const [path, golden] of Object.entries(expected.gradients)) {
      const gradient = old!.get(path)!.map((value, i) => value - now!.get(path)![i]!);
      assertClose(gradient, decodeArray(golden), { atol: 2e-6, rtol: 2e-3 });
      seen++;
    }
    expect(seen).toBe(2 * layers.length);
    await step.dispose();
    for (const { a, b } of layers) for (const tensor of [a, b]) tensor.dispose();
    weights.dispose();
  });

  it("begins as the model itself, and refuses targets that there are not", async () => {
    const { decoder, weights, modules } = await open(device(), "llama_gqa");
    const lora = createLora(device(), modules, { rank: 2, targets: ["q_proj", "o_proj"], dropout: 0.1 });
    expect(lora.layers.map(({ module }) => module.name)).toEqual(
      [0, 1].flatMap((i) => ["q", "o"].map((p) => `model.layers.${i}.self_attn.${p}_proj`)),
    );
    const objective = languageModelObjective(decoder, weights.tree);
    const losses: number[] = [];
    for (const one of [objective, withLora(objective, lora)]) {
      const step = new TrainingStep(device(), {
        objective: one,
        parameters: lora.parameters,
        optimizer: { type: "adamw" },
      });
      losses.push((await step.evaluate([batchOf([5, 6, 7, 8])])).loss);
      if (one !== objective)
        expect((await step.run([batchOf([5, 6, 7, 8])], { learningRate: 1e-2 })).gradientNorm).toBeGreaterThan(0);
      await step.dispose();
    }
    expect(losses[1]).toBe(losses[0]);
    expect(() => createLora(device(), modules, { targets: "(" })).toThrow(/must be a regular expression; got \(/);
    expect(() => createLora(device(), modules, { targets: ["w_proj"] })).toThrow(
      "got w_proj. There are q_proj, k_proj",
    );
    lora.dispose();
    weights.dispose();
  });

  /** The matrices of encoded files by their names in PEFT's file, rows in the checkpoint's order. */
  async function readBack(files: ReadonlyMap<string, Uint8Array[]>, name: (typeof NAMES)[number]) {
    const { readSafetensorsHeader } = await import("../../src/formats/safetensors.ts");
    const { readTensorF32 } = await import("../../src/formats/stream_tensor.ts");
    const parts = files.get("adapter_model.safetensors")! as Uint8Array<ArrayBuffer>[];
    const source = filesSource([new File(parts, `${name}.safetensors`)]);
    const file = await source.open(`${name}.safetensors`);
    const { tensors } = await readSafetensorsHeader(file!);
    const out = new Map<string, number[]>();
    for (const [path, entry] of tensors) out.set(path, Array.from(await readTensorF32(entry)));
    return out;
  }
});
