import { expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import { LossScale } from "../../src/train/mixed.ts";
import type { TrainingProgress } from "../../src/train/trainer.ts";
import { Training } from "../../src/train/training.ts";
import { describeOnDevice } from "../support/devices.ts";
import { readTinyText, sourceOf, TINY_RECIPE, TINY_TRANSLATION } from "./tiny.ts";

const MIXED = { precision: "mixed" } as const;
/** Products of f16 are off by 2⁻¹¹ of each factor; the losses of a short run by less than this. */
const TOLERANCE = 0.01;

const open = (device: Device, recipe: unknown, from?: Parameters<typeof Training.open>[2]["from"]) =>
  Training.open(device, recipe, { readText: readTinyText, ...(from ? { from } : {}) });

async function updates(training: Training, most = Number.POSITIVE_INFINITY): Promise<TrainingProgress[]> {
  const all: TrainingProgress[] = [];
  for await (const progress of training) {
    all.push(progress);
    if (all.length === most) break;
  }
  return all;
}

async function runOf(device: Device, recipe: unknown): Promise<TrainingProgress[]> {
  const training = await open(device, recipe);
  try {
    return await updates(training);
  } finally {
    await training.dispose();
  }
}

describeOnDevice("mixed precision", (device) => {
  it.each([
    ["a language model", { ...TINY_RECIPE, steps: 50 }],
    ["a language model with recomputed blocks and accumulation", { ...TINY_RECIPE, recompute: true, accumulate: 2 }],
    // Masks of dropout follow from the place in the record, where casts stand too.
    ["a translator", { ...TINY_TRANSLATION, steps: 20, dropout: {} }],
  ])("follows the losses of f32: %s", async (_, recipe) => {
    if (!device().facts.f16) return;
    const [exact, mixed] = [await runOf(device(), recipe), await runOf(device(), { ...recipe, ...MIXED })];
    expect(mixed).toHaveLength(exact.length);
    for (const [i, { loss, lossScale, overflows }] of mixed.entries()) {
      const expected = exact[i]?.loss ?? Number.NaN;
      expect(Math.abs(loss - expected), `step ${i + 1}: ${loss} for ${expected}`).toBeLessThan(TOLERANCE * expected);
      expect(lossScale).toBe(65536);
      expect(overflows).toBeUndefined();
    }
    // It must not be the f32 run.
    expect(mixed.map(({ loss }) => loss)).not.toEqual(exact.map(({ loss }) => loss));
  });

  it("halves the scale where gradients overflow, passes the batch over and changes nothing", async () => {
    const training = await open(device(), { ...TINY_RECIPE, ...MIXED, lossScale: { initial: 2 ** 40 } });
    const { step } = training;
    const before = await training.files();
    const batch = await training.trainer.options.data.next();
    const { overflow, gradientNorm, loss } = await step.run([batch], { learningRate: 0.1 });
    expect({ overflow, isFinite: Number.isFinite(gradientNorm) }).toEqual({ overflow: true, isFinite: false });
    expect(loss).toBeGreaterThan(0);
    expect(step.stepsDone).toBe(0);
    expect(step.lossScale?.scale).toBe(2 ** 39);
    expect(await training.files()).toEqual(before);
    const [first, second] = await updates(training, 2);
    const passed = first?.overflows ?? 0;
    expect(passed).toBeGreaterThan(3);
    expect(first).toMatchObject({ step: 1, lossScale: 2 ** (39 - passed) });
    expect(second).toMatchObject({ step: 2, lossScale: 2 ** (39 - passed) });
    expect(second?.overflows).toBeUndefined();
    await training.dispose();
  });

  it("goes on from a checkpoint bit for bit, the scale with it", async () => {
    const recipe = { ...TINY_RECIPE, ...MIXED, lossScale: { initial: 2 ** 34, growEvery: 3 } };
    const whole = (await runOf(device(), recipe)).map(({ loss, lossScale }) => ({ loss, lossScale }));
    expect(new Set(whole.map(({ lossScale }) => lossScale)).size).toBeGreaterThan(1);
    const first = await open(device(), recipe);
    const before = await updates(first, 5);
    const checkpoint = sourceOf(await first.checkpoint());
    const state = first.trainer.state();
    await first.dispose();
    const second = await open(device(), recipe, checkpoint);
    expect(second.trainer.state()).toEqual(state);
    const all = [...before, ...(await updates(second))].map(({ loss, lossScale }) => ({ loss, lossScale }));
    expect(all).toEqual(whole);
    await second.dispose();
  });

  it("keeps masters in f32, and allocates nothing after the first step", async () => {
    const training = await open(device(), { ...TINY_RECIPE, ...MIXED });
    await updates(training, 1);
    const { batch, length } = training.recipe;
    const planned = await training.step.plan({ batch, length });
    const created = device().buffersCreated;
    await planned.run();
    expect(device().buffersCreated).toBe(created);
    for (const { tensor } of training.step.optimizer.parameters) expect(tensor.dtype).toBe("f32");
    const kernels = planned.dispatches.map(({ kernel }) => kernel);
    expect(kernels.filter((kernel) => kernel.startsWith("cast_f16")).length).toBeGreaterThan(10);
    // Masters that several layers share are cast once.
    const { parameters } = training.step.optimizer;
    const cast = planned.record.nodes.filter(
      ({ op, inputs }) => op.name === "cast_f16" && inputs["x"]?.kind === "state",
    );
    expect(cast.length).toBe(
      parameters.filter(({ name }) => /attn|mlp|wte/.test(name) && name.endsWith("weight")).length,
    );
    await training.dispose();
  });

  it("says in which layer a number left f16's range, and that f32 may help", async () => {
    const training = await open(device(), { ...TINY_RECIPE, ...MIXED });
    await updates(training, 1);
    const tensor = training.step.optimizer.parameters.find(({ name }) => name === "h.1.mlp.c_fc.weight")?.tensor;
    tensor?.write(0, new Uint8Array(new Float32Array(tensor.sizeBytes / 4).fill(1e6).buffer));
    const position = training.trainer.state();
    await expect(updates(training, 1)).rejects.toMatchObject({
      code: "DIVERGED",
      message: expect.stringMatching(/step 2 .* began in block\.1\.feed_forward\.up.*train with precision f32/),
    });
    expect(training.trainer.state()).toEqual(position);
    await training.dispose();
  });

  it("needs a device with f16", async () => {
    const { facts } = device();
    device().facts = { ...facts, f16: false, tier: "subgroups" };
    try {
      await expect(open(device(), { ...TINY_RECIPE, ...MIXED })).rejects.toMatchObject({
        code: "UNSUPPORTED",
        message: expect.stringMatching(/needs the GPU feature shader-f16.*Train with precision f32/),
      });
    } finally {
      device().facts = facts;
    }
  });

  it("refuses scales that are none", () => {
    expect(() => new LossScale({ initial: 3 })).toThrow(/power of two/);
    expect(() => new LossScale({ growEvery: 0 })).toThrow(/growEvery/);
  });
});
