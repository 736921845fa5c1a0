import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import type { Device } from "../../src/gpu/device.ts";
import { TextModel } from "../../src/tasks/text_model.ts";
import { Training, type TrainingOptions } from "../../src/train/training.ts";
import { describeOnDevice } from "../support/devices.ts";
import { assertClose } from "../support/close.ts";
import { tolerance } from "../support/tolerances.ts";
import { expectToResume, losses, readTinyText, sourceOf, TINY_RECIPE, TINY_TRANSLATION } from "./tiny.ts";

const open = <const R>(device: Device, recipe: R, more: Partial<TrainingOptions> = {}) =>
  Training.open(device, recipe, { readText: readTinyText, ...more });

describeOnDevice("training", (device) => {
  it.each([
    [
      "a language model with dropout and accumulation",
      { ...TINY_RECIPE, accumulate: 2, dropout: { hidden: 0.1, attention: 0.1 } },
    ],
    ["a language model with momentum", { ...TINY_RECIPE, optimizer: { type: "sgd", momentum: 0.9 } }],
    ["a translator", TINY_TRANSLATION],
    ["a streamed text", { ...TINY_RECIPE, data: { text: "text.txt", buffer: 7 }, steps: 30 }],
    ["streamed pairs", { ...TINY_TRANSLATION, data: { ...TINY_TRANSLATION.data, buffer: 5 }, steps: 14 }],
  ])("of %s goes on from a checkpoint bit for bit", async (_, recipe) => {
    await expectToResume((from) => open(device(), recipe, { from }));
  });

  it("lowers the loss, and generates with the weights of the moment", async () => {
    const training = await open(device(), { ...TINY_RECIPE, steps: 60, evaluate: { every: 20 } });
    const before = await training.evaluate();
    const model = await training.model();
    const ids = training.tokenizer.encode("the cat");
    const first = await model.logits(ids);
    const held: number[] = [];
    for await (const { validationLoss, best } of training) {
      if (validationLoss === undefined) continue;
      held.push(validationLoss);
      expect(best).toBe(true);
    }
    expect(held.length).toBe(3);
    expect(held[2]).toBeLessThan((before ?? 0) - 1);
    const last = await model.logits(ids);
    expect(Math.abs((last[0]?.[0] ?? 0) - (first[0]?.[0] ?? 0))).toBeGreaterThan(0.01);
    const { text } = await model.generate("the cat", { maxTokens: 8, greedy: true }).result;
    expect(text).toHaveLength(8);
    const { values } = await model.run("the cat", { capture: ["block.1.attention.probs"] });
    expect(Object.keys(values)).toEqual(["block.1.attention.probs"]);
    const saved = await TextModel.load(device(), sourceOf(await training.files()));
    for (const [t, row] of (await saved.logits(ids)).entries()) {
      assertClose(row, last[t] as Float32Array, { ...tolerance("f32", "logits"), label: `logits of token ${t}` });
    }
    await saved.dispose();
    await training.dispose();
  });

  it("ends when evaluations have not been better for so long", async () => {
    const recipe = {
      ...TINY_RECIPE,
      steps: 500,
      schedule: { type: "constant", learningRate: 1e-30 },
      evaluate: { every: 1, patience: 3 },
    };
    const training = await open(device(), recipe);
    let end: string | undefined;
    for await (const { finished } of training) end = finished;
    expect(end).toBe("patience");
    expect(training.trainer.stepsDone).toBe(4);
    await training.dispose();
  });

  it("stops on its signal, with all updates whole", async () => {
    const interrupt = new AbortController();
    const training = await open(device(), TINY_RECIPE, { signal: interrupt.signal });
    await expect(async () => {
      for await (const { step } of training) if (step === 3) interrupt.abort();
    }).rejects.toMatchObject({ code: "ABORTED" });
    expect(training.trainer.stepsDone).toBe(3);
    const checkpoint = sourceOf(await training.checkpoint());
    await training.dispose();
    const again = await open(device(), TINY_RECIPE, { from: checkpoint });
    expect((await losses(again)).length).toBe(9);
    await again.dispose();
  });

  it("says in which layer a number ceased to be finite, and leaves the weights", async () => {
    const training = await open(device(), TINY_RECIPE);
    await losses(training, 2);
    const { parameters } = training.step.optimizer;
    for (const name of ["h.1.ln_2.weight", "h.1.mlp.c_fc.weight"]) {
      const tensor = parameters.find((p) => p.name === name)?.tensor;
      tensor?.write(0, new Uint8Array(new Float32Array(tensor.sizeBytes / 4).fill(1e30).buffer));
    }
    const position = training.trainer.state();
    const before = await training.files();
    await expect(losses(training, 1)).rejects.toMatchObject({
      code: "DIVERGED",
      message: expect.stringMatching(/step 3 .* began in block\.1\.feed_forward\.up.*Lower the learning rate/),
    });
    expect(training.trainer.state()).toEqual(position);
    expect(await training.files()).toEqual(before);
    await training.dispose();
  });

  it("says which parameter is not finite", async () => {
    const training = await open(device(), TINY_RECIPE);
    const [first] = training.step.optimizer.parameters;
    first?.tensor.write(0, new Uint8Array(new Float32Array([Number.NaN]).buffer));
    await expect(losses(training, 1)).rejects.toMatchObject({
      message: expect.stringContaining("the parameter wte.weight"),
    });
    await training.dispose();
  });

  it("evaluates later what it was stopped from evaluating", async () => {
    const recipe = { ...TINY_RECIPE, steps: 6, evaluate: { every: 3 } };
    const told = async (training: Training): Promise<object[]> => {
      const seen: object[] = [];
      for await (const { elapsedMs: _, ...progress } of training) seen.push(progress);
      return seen;
    };
    const whole = await open(device(), recipe);
    const expected = await told(whole);
    await whole.dispose();
    const interrupt = new AbortController();
    const stopped = await open(device(), recipe, { signal: interrupt.signal });
    const first = await losses(stopped, 2);
    const evaluate = stopped.step.evaluate.bind(stopped.step);
    stopped.step.evaluate = (...args) => {
      interrupt.abort();
      return evaluate(...args);
    };
    await expect(told(stopped)).rejects.toMatchObject({ code: "ABORTED" });
    expect([first.length, stopped.trainer.stepsDone, stopped.trainer.stepsTold]).toEqual([2, 3, 2]);
    const checkpoint = sourceOf(await stopped.checkpoint());
    await stopped.dispose();
    const again = await open(device(), recipe, { from: checkpoint });
    expect(await told(again)).toEqual(expected.slice(2));
    await again.dispose();
  });

  it("leaves nothing on the GPU where a recipe is refused late", async () => {
    const before = device().bytesInUse;
    const recipe = { ...TINY_RECIPE, evaluate: { patience: 2 } };
    await expect(open(device(), recipe)).rejects.toMatchObject({ code: "USAGE" });
    expect(device().bytesInUse).toBe(before);
  });

  it("refuses a checkpoint of another model", async () => {
    const training = await open(device(), TINY_RECIPE);
    await losses(training, 1);
    const files = new Map(await training.checkpoint());
    await training.dispose();
    const sgd = { ...TINY_RECIPE, optimizer: { type: "sgd", momentum: 0.5 } };
    await expect(open(device(), sgd, { from: sourceOf(files) })).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringContaining("must hold wte.weight.velocity; got none"),
    });
    const wider = { ...TINY_RECIPE, model: { ...TINY_RECIPE.model, n_embd: 32 } };
    await expect(open(device(), wider, { from: sourceOf(files) })).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("model.n_embd 32, where it began with 16"),
    });
    files.delete("trainer_state.json");
    await expect(open(device(), TINY_RECIPE, { from: sourceOf(files) })).rejects.toMatchObject({ code: "BAD_FILE" });
    await openCheckpoint(sourceOf(files));
  });

  it.each([
    [{ ...TINY_RECIPE, stepz: 1 }, /stepz/],
    [{ ...TINY_RECIPE, steps: 0 }, /steps/],
    [{ ...TINY_RECIPE, task: "song" }, /task/],
    [{ ...TINY_RECIPE, data: { source: "a", target: "b" } }, /data\.text/],
    [{ ...TINY_RECIPE, length: 400 }, /context of 16 tokens/],
    [{ ...TINY_RECIPE, evaluate: { patience: 2 } }, /evaluateEvery/],
    [{ ...TINY_TRANSLATION, evaluate: { every: 2 } }, /need validation; got none\. Hold something out/],
    [{ ...TINY_TRANSLATION, length: 2 }, /may have 2 tokens/],
    [
      { ...TINY_RECIPE, data: { text: "text.txt", buffer: 4, validationShare: 0.1 } },
      /Name a file as data\.validation/,
    ],
    [{ ...TINY_TRANSLATION, model: TINY_RECIPE.model }, /encoder–decoder/],
  ])("refuses a recipe that it can't honour (%#)", async (recipe, message) => {
    await expect(open(device(), recipe)).rejects.toThrow(message);
  });

  it("refuses to write what it can't", async () => {
    const training = await open(device(), TINY_RECIPE);
    const refusing = (message: RegExp) => ({ code: "USAGE", message: expect.stringMatching(message) as string });
    await expect(training.files({ dtype: "q8_0" as "f16" })).rejects.toMatchObject(
      refusing(/must be f32 or f16; got "q8_0"/),
    );
    await expect(training.files("f16" as never)).rejects.toMatchObject(refusing(/there are dtype/));
    await training.dispose();
  });
});
