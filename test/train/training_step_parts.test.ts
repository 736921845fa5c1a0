import { expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import type { Tensor } from "../../src/gpu/tensor.ts";
import type { WeightTree } from "../../src/models/family.ts";
import { openDecoder } from "../../src/models/registry.ts";
import { initialise, uniformGenerator } from "../../src/train/initialise.ts";
import { IGNORED_TARGET, languageModelObjective } from "../../src/train/losses.ts";
import type { Batch } from "../../src/train/objective.ts";
import { disposeTree, type Parameter, parametersOf } from "../../src/train/parameters.ts";
import { TrainingStep, type TrainingStepOptions } from "../../src/train/training_step.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice } from "../support/devices.ts";
import { gradientTolerance } from "../support/tolerances.ts";

const VOCABULARY = 11;
const LENGTH = 8;

function model(layers: number, positions = LENGTH) {
  return openDecoder({
    model_type: "gpt2",
    n_layer: layers,
    n_head: 2,
    n_embd: 16,
    n_positions: positions,
    vocab_size: VOCABULARY,
  });
}

/** Random rows; every third target does not count. */
function draw(rows: number, uniform: () => number): Batch {
  const id = () => Math.floor(uniform() * VOCABULARY);
  const tokens = Uint32Array.from({ length: rows * LENGTH }, id);
  const targets = Int32Array.from({ length: rows * LENGTH }, () => (uniform() < 1 / 3 ? IGNORED_TARGET : id()));
  const count = targets.filter((t) => t !== IGNORED_TARGET).length;
  return { shape: { batch: rows, length: LENGTH }, inputs: { tokens, targets }, count, tokens: rows * LENGTH };
}

function joined(batches: readonly Batch[]): Batch {
  const all = <T extends "tokens" | "targets">(name: T) =>
    batches.flatMap((b) => [...(b.inputs[name] as unknown as ArrayLike<number> as number[])]);
  return {
    shape: { batch: batches.reduce((n, b) => n + b.shape.batch, 0), length: LENGTH },
    inputs: { tokens: Uint32Array.from(all("tokens")), targets: Int32Array.from(all("targets")) },
    count: batches.reduce((n, b) => n + b.count, 0),
    tokens: batches.reduce((n, b) => n + b.tokens, 0),
  };
}

interface Made {
  readonly step: TrainingStep;
  readonly parameters: readonly Parameter[];
  readonly tree: WeightTree<Tensor>;
}

function make(device: Device, layers: number, options: Partial<TrainingStepOptions> = {}): Made {
  const decoder = model(layers);
  const tree = initialise(device, decoder, { seed: 3, std: 0.2 });
  const parameters = parametersOf(decoder.rules, tree);
  const objective = languageModelObjective(decoder, tree);
  const step = new TrainingStep(device, { objective, parameters, optimizer: { type: "sgd", clip: 0 }, ...options });
  return { step, parameters, tree };
}

async function read(parameters: readonly Parameter[]): Promise<Map<string, Float32Array>> {
  const all = new Map<string, Float32Array>();
  for (const { name, tensor } of parameters) all.set(name, new Float32Array(await tensor.read()));
  return all;
}

/** The change of every parameter in one step of gradient descent with rate 1: minus its gradient. */
async function gradientsOf(device: Device, batches: readonly Batch[], options: Partial<TrainingStepOptions> = {}) {
  const made = make(device, 2, options);
  const before = await read(made.parameters);
  const result = await made.step.run(batches, { learningRate: 1 });
  const after = await read(made.parameters);
  await made.step.dispose();
  disposeTree(made.tree);
  const change = (name: string) => after.get(name)?.map((x, i) => x - (before.get(name)?.[i] ?? 0)) as Float32Array;
  return { result, gradients: new Map([...after.keys()].map((name) => [name, change(name)])) };
}

describeOnDevice("a training step's parts", (device) => {
  const uniform = uniformGenerator(7);
  const parts = [draw(2, uniform), draw(2, uniform), draw(2, uniform)];

  it("gives the gradients of one batch where they are accumulated over several", async () => {
    const whole = await gradientsOf(device(), [joined(parts)]);
    const split = await gradientsOf(device(), parts);
    expect(split.result.loss).toBeCloseTo(whole.result.loss, 5);
    expect(split.result.gradientNorm / whole.result.gradientNorm).toBeCloseTo(1, 5);
    for (const [name, gradient] of whole.gradients) {
      assertClose(split.gradients.get(name) ?? [], gradient, { ...gradientTolerance(gradient), label: name });
    }
  });

  it("gives the same gradients where blocks are computed again, with dropout too", async () => {
    const options = { dropout: { hidden: 0.2, attention: 0.2 }, seed: 4 };
    const kept = await gradientsOf(device(), parts, options);
    const again = await gradientsOf(device(), parts, { ...options, recompute: true });
    const without = await gradientsOf(device(), parts);
    expect(again).toEqual(kept);
    expect(without.result.loss).not.toBe(kept.result.loss);
  });

  it("leaves frozen parameters alone, and spends no backward work on them", async () => {
    const made = make(device(), 4);
    const [batch] = parts as [Batch];
    const full = (await made.step.plan(batch.shape)).dispatches.length;
    await made.step.dispose();
    const last = made.parameters.filter(({ name }) => name.startsWith("ln_f"));
    const { step, parameters, tree } = make(device(), 4);
    const head = parameters.filter(({ name }) => name.startsWith("ln_f"));
    const frozen = new TrainingStep(device(), {
      objective: languageModelObjective(model(4), tree),
      parameters: head,
      optimizer: { type: "adamw" },
    });
    const before = await read(parameters);
    await frozen.run([batch], { learningRate: 0.1 });
    const after = await read(parameters);
    const changed = [...after].filter(([name, data]) => data.some((x, i) => x !== before.get(name)?.[i]));
    expect(changed.map(([name]) => name)).toEqual(last.map(({ name }) => name));
    const planned = await frozen.plan(batch.shape);
    expect(
      planned.dispatches.filter(({ label }) => label.startsWith("backward") && label.includes("attention")),
    ).toEqual([]);
    expect(planned.dispatches.length).toBeLessThan(full / 2);
    expect(frozen.optimizer.moments.size).toBe(4);
    await frozen.dispose();
    await step.dispose();
    disposeTree(tree);
    disposeTree(made.tree);
  });

  it("decays matrices, and neither norms nor biases", async () => {
    const made = make(device(), 1, { optimizer: { type: "adamw", weightDecay: 0.5 } });
    const names = made.parameters.filter(({ decays }) => decays).map(({ name }) => name);
    expect(names.sort()).toEqual(
      ["c_attn", "c_proj"]
        .map((n) => `h.0.attn.${n}.weight`)
        .concat(
          ["c_fc", "c_proj"].map((n) => `h.0.mlp.${n}.weight`),
          ["wpe.weight", "wte.weight"],
        ),
    );
    await made.step.dispose();
    disposeTree(made.tree);
  });

  it("states its bytes, and keeps under a third of the activations of 12 layers where they are computed again", async () => {
    // Activations far larger than the gradients of so small a model.
    const shape = { batch: 64, length: LENGTH };
    const sizes: number[] = [];
    for (const recompute of [false, true]) {
      const { step, parameters, tree } = make(device(), 12, { recompute, optimizer: { type: "adamw" } });
      const { bytes } = await step.describe(shape);
      const parameterBytes = parameters.reduce((sum, { tensor }) => sum + tensor.sizeBytes, 0);
      expect(bytes.states).toBe(3 * parameterBytes);
      expect(bytes.inputs).toBe(4 * (4 * 64 * LENGTH + 1 + 1 + 1));
      sizes.push(bytes.slabs.reduce((a, b) => a + b, 0));
      await step.dispose();
      disposeTree(tree);
    }
    const [kept = 0, again = 0] = sizes;
    expect(again).toBeLessThan(kept / 3);
  });

  it("refuses inputs of another length, and batches in which nothing counts", async () => {
    const { step, tree } = make(device(), 1);
    const [batch] = parts as [Batch];
    const short = { ...batch, inputs: { ...batch.inputs, tokens: new Uint32Array(3) } };
    await expect(step.run([short], { learningRate: 1 })).rejects.toThrow("tokens must have 16 entries; got 3");
    await expect(step.run([{ ...batch, count: 0 }], { learningRate: 1 })).rejects.toThrow(
      "at least one target must count",
    );
    await step.dispose();
    disposeTree(tree);
  });
});
