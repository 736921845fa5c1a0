import { expect, it } from "vitest";
import { Tensor } from "../../src/gpu/tensor.ts";
import { mapLeaves } from "../../src/models/family.ts";
import { openDecoder } from "../../src/models/registry.ts";
import { DecoderRuntime } from "../../src/tasks/decoder_runtime.ts";
import { initialise, uniformGenerator } from "../../src/train/initialise.ts";
import { countTargets, languageModelObjective } from "../../src/train/losses.ts";
import type { Batch } from "../../src/train/objective.ts";
import { parametersOf } from "../../src/train/parameters.ts";
import { TrainingStep } from "../../src/train/training_step.ts";
import { describeOnDevice } from "../support/devices.ts";

/** The sizes of minGPT's sorting model: three letters, six of them, then their sorted copy shifted by one. */
const CONFIG = {
  model_type: "gpt2",
  n_layer: 3,
  n_head: 3,
  n_embd: 48,
  n_positions: 11,
  vocab_size: 3,
  tie_word_embeddings: false,
};
const LETTERS = 6;
const LENGTH = 2 * LETTERS - 1;
const BATCH = 16;
const STEPS = 240;

function drawBatch(uniform: () => number): Batch {
  const tokens = new Uint32Array(BATCH * LENGTH);
  const targets = new Int32Array(BATCH * LENGTH).fill(-100);
  for (let b = 0; b < BATCH; b++) {
    const letters = Array.from({ length: LETTERS }, () => Math.floor(uniform() * 3));
    const both = [...letters, ...[...letters].sort()];
    for (let t = 0; t < LENGTH; t++) {
      tokens[b * LENGTH + t] = both[t] as number;
      if (t >= LETTERS - 1) targets[b * LENGTH + t] = both[t + 1] as number;
    }
  }
  const count = countTargets(targets);
  return { shape: { batch: BATCH, length: LENGTH }, inputs: { tokens, targets }, count, tokens: BATCH * LENGTH };
}

describeOnDevice("training step", (device) => {
  it("teaches a random model to sort", async () => {
    const decoder = openDecoder(CONFIG);
    const tree = initialise(device(), decoder, { seed: 3 });
    const step = new TrainingStep(device(), {
      objective: languageModelObjective(decoder, tree),
      parameters: parametersOf(decoder.rules, tree),
      optimizer: { type: "sgd", momentum: 0.9, clip: 0 },
      recompute: true,
    });
    const uniform = uniformGenerator(11);
    const losses: number[] = [];
    for (let i = 0; i < STEPS; i++) {
      const { loss } = await step.run([drawBatch(uniform)], { learningRate: 0.1 * (1 - i / STEPS) });
      losses.push(loss);
    }
    expect(losses[0]).toBeGreaterThan(0.9);
    expect(losses.slice(-10).reduce((a, b) => a + b, 0) / 10).toBeLessThan(0.05);
    const created = device().buffersCreated;
    const planned = await step.plan({ batch: BATCH, length: LENGTH });
    await planned.run();
    expect(device().buffersCreated).toBe(created);
    await step.dispose();

    // The trained tensors are the ones that generate.
    const dispose = () =>
      mapLeaves(
        tree,
        (t): t is Tensor => t instanceof Tensor,
        (t) => t.dispose(),
      );
    const runtime = new DecoderRuntime(device(), decoder, { tree, dtype: "f32", bytes: 0, dispose });
    let right = 0;
    for (let trial = 0; trial < 20; trial++) {
      const letters = Array.from({ length: LETTERS }, () => Math.floor(uniform() * 3));
      const sorted = [...letters].sort();
      const logits = await runtime.logits([...letters, ...sorted.slice(0, -1)]);
      if (sorted.every((letter, i) => argmax(logits[LETTERS - 1 + i] as Float32Array) === letter)) right++;
    }
    expect(right).toBeGreaterThanOrEqual(19);
    await runtime.dispose();
  });
});

function argmax(row: Float32Array): number {
  return row.indexOf(Math.max(...row));
}
