import { expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import { Tensor } from "../../src/gpu/tensor.ts";
import { add, scale } from "../../src/ops/add.ts";
import type { Batch, Objective } from "../../src/train/objective.ts";
import { Trainer } from "../../src/train/trainer.ts";
import { TrainingStep } from "../../src/train/training_step.ts";
import { describeOnDevice } from "../support/devices.ts";

const BATCH: Batch = { shape: { batch: 1, length: 1 }, inputs: {}, count: 1, tokens: 1 };

const valuesOf = (tensors: readonly Tensor[]): Promise<number[][]> =>
  Promise.all(tensors.map(async (tensor) => [...new Float32Array(await tensor.read())]));

/** The error of a step whose loss is `w · near · far + v`. */
async function failing(
  device: Device,
  w: number,
  [near, far]: readonly [number, number],
  accumulate: number,
  frozen = false,
): Promise<unknown> {
  const tensors = ["v", "w"].map((name) =>
    Tensor.from(device, name, [1], "f32", new Float32Array([name === "w" ? w : 1])),
  );
  const [first, second] = tensors as [Tensor, Tensor];
  const objective: Objective = {
    record: ({ rec, value }) => {
      const inner = rec.name(scale(rec, value(second), near), "block.0.inner");
      return add(rec, rec.name(scale(rec, inner, far), "block.1.outer"), scale(rec, value(first), 2));
    },
  };
  const trained = frozen ? [first] : tensors;
  const parameters = trained.map((tensor) => ({ name: tensor.label, tensor, decays: true }));
  const step = new TrainingStep(device, { objective, parameters, optimizer: { type: "sgd" } });
  const data = { next: () => BATCH, state: () => 0, restore: () => {} };
  const trainer = new Trainer({ step, data, steps: 3, accumulate, schedule: { type: "constant", learningRate: 1 } });
  const before = await valuesOf(tensors);
  const error = await trainer[Symbol.asyncIterator]()
    .next()
    .then(
      () => undefined,
      (reason: unknown) => reason,
    );
  expect(await valuesOf(tensors)).toEqual(before);
  expect(step.stepsDone).toBe(0);
  await step.dispose();
  for (const tensor of tensors) tensor.dispose();
  return error;
}

describeOnDevice("where numbers cease to be finite", (device) => {
  it.each([
    ["a parameter", Number.NaN, [1, 1], /began in the parameter w\. Nothing .* Begin with weights that are finite/],
    ["the forward pass", 1e10, [1e20, 1e20], /step 1 .* began in block\.1\.outer\. .* Lower the learning rate/],
    ["a gradient", 1e-20, [1e30, 1e15], /the forward pass is finite, and it began in the gradient of w\. /],
    ["the norm", 1e-20, [1e15, 1e10], /every gradient is finite but too large to be squared, that of w above all/],
    [
      "a frozen parameter",
      Number.NaN,
      [1, 1],
      /began in the parameter w\. Nothing .* Begin with weights that are/,
      true,
    ],
  ] as const)("it is told of %s", async (_, w, factors, message, ...[frozen]: readonly boolean[]) => {
    const before = device().bytesInUse;
    for (const accumulate of [1, 2]) {
      const error = await failing(device(), w, factors, accumulate, frozen);
      expect(error).toMatchObject({ code: "DIVERGED", message: expect.stringMatching(message) });
    }
    expect(device().bytesInUse).toBe(before);
  });
});
