import { formatProfile } from "../../../src/cli/profile.ts";
import { openCheckpoint } from "../../../src/formats/checkpoint.ts";
import { encodeSafetensors } from "../../../src/formats/safetensors_write.ts";
import { Device } from "../../../src/gpu/device.ts";
import { nodeGpu } from "../../../src/gpu/platform_node.ts";
import { loadWeights } from "../../../src/models/load.ts";
import { openDecoder } from "../../../src/models/registry.ts";
import { languageModelObjective } from "../../../src/train/losses.ts";
import { parametersOf } from "../../../src/train/parameters.ts";
import { TrainingStep } from "../../../src/train/training_step.ts";
import { sourceOf } from "../../train/tiny.ts";
import type { SeededTensor, Trainee, TrainSizes } from "./contender.ts";

/** Heed's training step: one Program. */
export async function heedTrainee(sizes: TrainSizes, weights: ReadonlyMap<string, SeededTensor>): Promise<Trainee> {
  const device = await Device.request({ gpu: await nodeGpu() });
  const { layers, heads, width, length, batch, vocabulary, learningRate } = sizes;
  const config = {
    model_type: "gpt2",
    n_layer: layers,
    n_head: heads,
    n_embd: width,
    n_positions: length,
    vocab_size: vocabulary,
  };
  const tensors = new Map([...weights].map(([name, t]) => [name, { format: "f32", ...t } as const]));
  const files = new Map<string, string | readonly Uint8Array[]>([
    ["config.json", JSON.stringify(config)],
    ["model.safetensors", encodeSafetensors(tensors)],
  ]);
  const decoder = openDecoder(config);
  const { tree, dispose } = await loadWeights(device, decoder, await openCheckpoint(sourceOf(files)));
  const step = new TrainingStep(device, {
    objective: languageModelObjective(decoder, tree),
    parameters: parametersOf(decoder.rules, tree),
    optimizer: { type: "sgd", clip: 0 },
  });
  const shape = { batch, length };
  return {
    name: "Heed",
    async step(tokens, targets) {
      const { loss } = await step.run(
        [{ shape, inputs: { tokens, targets }, count: tokens.length, tokens: tokens.length }],
        { learningRate },
      );
      return loss;
    },
    async profile() {
      const table = formatProfile(await (await step.plan(shape)).profile(), length);
      // Its heading speaks of decoding.
      return `One step, each dispatch in a pass of its own\n${table.slice(table.indexOf("\n") + 1)}`;
    },
    async dispose() {
      await step.dispose();
      dispose();
      device.dispose();
    },
  };
}
