import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { loadWeights } from "../../src/models/load.ts";
import { openDecoder } from "../../src/models/registry.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { languageModelObjective } from "../../src/train/losses.ts";
import { parametersOf } from "../../src/train/parameters.ts";
import { encodeModel } from "../../src/train/save.ts";
import { TrainingStep } from "../../src/train/training_step.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice } from "../support/devices.ts";
import { goldenPath, readGolden } from "../support/goldens.ts";
import { readTestSafetensors } from "../support/safetensors.ts";
import { gradientTolerance, tolerance } from "../support/tolerances.ts";
import { sourceOf } from "./tiny.ts";

describeOnDevice("a training step", (device) => {
  it.each(["gpt2", "llama_gqa"] as const)("moves %s by PyTorch's gradients", async (name) => {
    const folder = goldenPath(name);
    const checkpoint = await openCheckpoint(await folderSource(folder));
    const decoder = openDecoder(checkpoint.config);
    const weights = await loadWeights(device(), decoder, checkpoint, { dtype: "f32" });
    const written = async () => {
      const model = await encodeModel(decoder.rules, weights.tree);
      const { tensors } = await openCheckpoint(
        sourceOf(
          new Map<string, string | readonly Uint8Array[]>([
            ["config.json", "{}"],
            ["model.safetensors", model],
          ]),
        ),
      );
      const all = new Map<string, Float32Array>();
      for (const [key, { file, start, end }] of tensors) {
        all.set(key, new Float32Array((await file.read(start, end)).slice().buffer));
      }
      return all;
    };
    const step = new TrainingStep(device(), {
      objective: languageModelObjective(decoder, weights.tree),
      parameters: parametersOf(decoder.rules, weights.tree),
      optimizer: { type: "sgd", clip: 0 },
    });
    const ids = readGolden(name)[0]?.ids ?? [];
    const [tokens, targets] = [Uint32Array.from(ids.slice(0, -1)), Int32Array.from(ids.slice(1))];
    const shape = { batch: 1, length: tokens.length };
    const before = await written();
    const batch = { shape, inputs: { tokens, targets }, count: tokens.length, tokens: tokens.length };
    const { loss } = await step.run([batch], { learningRate: 1 });
    const after = await written();
    const expected = readTestSafetensors(`${folder}/gradients.safetensors`);
    assertClose([loss], expected.get("loss")?.data ?? [], { ...tolerance("f32", "logits"), label: "loss" });
    let compared = 0;
    for (const [stored, { data }] of expected) {
      // What is written has no prefix.
      const key = stored.replace(/^model\./, "");
      const own = before.get(key);
      if (!own) continue;
      const gradient = own.map((x, i) => x - (after.get(key)?.[i] ?? Number.NaN));
      assertClose(gradient, data, { ...gradientTolerance(data), label: key });
      compared++;
    }
    expect(compared).toBe(expected.size - 1);
    await step.dispose();
    weights.dispose();
  });
});
