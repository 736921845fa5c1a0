import { describe, expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import { Engine } from "../../src/tasks/engine.ts";
import { type FinetuneExamples, openFinetuning, openTraining } from "../../src/train/index.ts";
import { TINY_RECIPE } from "./tiny.ts";

/** What an engine says that is asked for a model: options are refused before. */
const ASKED = "a model was asked for";
const engine = new Engine({} as Device, () => Promise.reject(new Error(ASKED)));

const TEXTS = { task: "lm", texts: ["a text"] };
const CLASSES = { task: "classification", texts: [{ text: "a text", label: "x" }] };
const MASKED = { ...TEXTS, task: "masked-lm" };
const SCHEDULE = { type: "constant", learningRate: 0.1 };

/** As scripts call it, that no compiler has seen. */
async function finetune(examples: unknown, options: unknown, on: unknown = engine): Promise<string> {
  const error: unknown = await openFinetuning(on as Engine, "m", examples as FinetuneExamples, options as never).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  const { code, message } = error as { code?: string; message: string };
  return code === undefined ? message : `${code} ${message}`;
}

describe("openFinetuning", () => {
  it.each([
    [
      { blah: 1 },
      /^USAGE finetune: the options must be .*; blah is not known\. There are batch, length, .*learningRate/,
    ],
    [{ precision: "f8" }, /precision must be \("f32" \| "mixed"\), got "f8"/],
    [{ lora: { foo: 1 } }, /lora\.foo is not known/],
    [{ lora: true }, /lora must be Object, got true/],
    [{ lora: { rank: 1.5 } }, /lora\.rank must be a whole number, got 1\.5/],
    [{ lora: { targets: [1] } }, /lora\.targets/],
    [{ steps: "10" }, /steps must be number, got "10"/],
    [{ steps: undefined }, /steps is missing \(number\)/],
    [{ batch: 0 }, /batch must be >=1, got 0/],
    [{ learningRate: -1 }, /learningRate must be >0, got -1/],
    [{ learningRate: 0.1, schedule: SCHEDULE }, /learningRate does nothing beside schedule, .* got 0\.1\. Leave one/],
    [{ schedule: { ...SCHEDULE, warmUp: 3 } }, /schedule\.warmUp is not known/],
    [{ schedule: { ...SCHEDULE, type: "linear", minimum: 1 } }, /minimum must lie from 0 to learningRate; got 1/],
    [{ optimizer: { type: "adamw", lr: 1 } }, /optimizer\.lr is not known/],
    [{ maskRate: 0.2 }, /maskRate does nothing here: task lm hides no tokens/],
    [{ train: "head" }, /train "head" does nothing here: task lm puts no head/],
    [{ train: "heads" }, /train must be .*"head".*RegExp.*, got "heads"/],
    [{ train: /x/, lora: {} }, /lora trains an adapter .* got train \/x\/ too/],
    [{ base: "q2" }, /base must be .*"q8_0".*, got "q2"/],
    [{ heldOut: CLASSES }, /held out must be for lm; got classification/],
    [{ heldOut: { task: "lm" } }, /heldOut\.texts is missing/],
    [{ evaluateEvery: 5 }, /evaluateEvery needs heldOut, .* got none/],
    [{ keep: "best", heldOut: TEXTS }, /keep best needs evaluateEvery/],
    [{ patience: 2, heldOut: TEXTS }, /patience needs evaluateEvery/],
    [{ from: "./folder" }, /from must be Object, got "\.\/folder"/],
    [{ signal: {} }, /signal must be AbortSignal, got Object/],
  ])("refuses %j before it opens a model", async (options, message) => {
    expect(await finetune(TEXTS, { steps: 1, ...options })).toMatch(message);
  });

  it.each([
    [
      { ...TEXTS, task: "foo" },
      /^USAGE finetune: examples must be .*; task must be \(\("lm" \| .*"labels".*, got "foo"\. Each/,
    ],
    [{ task: "lm" }, /texts is missing/],
    [{ task: "lm", texts: "a text" }, /texts must be Array, got "a text"/],
    [{ task: "lm", texts: ["a", 5] }, /texts\.1 must be string, got 5/],
    [{ ...CLASSES, pairs: [] }, /pairs is not known/],
    [{ task: "completion", pairs: [{ prompt: "a" }] }, /pairs\.0\.completion is missing/],
    [undefined, /examples is missing \(Object\)/],
  ])("refuses %j as examples", async (examples, message) => {
    expect(await finetune(examples, { steps: 1 })).toMatch(message);
  });

  it("refuses what is no engine, and no options at all", async () => {
    expect(await finetune(TEXTS, { steps: 1 }, "cpu")).toMatch(
      /^USAGE finetune: the first argument .* got string\. create/,
    );
    expect(await finetune(TEXTS, { steps: 1 }, null)).toMatch(/must be an engine; got null/);
    expect(await finetune(TEXTS, undefined)).toMatch(/^USAGE finetune: .*options is missing \(Object\)/);
  });

  it.each([
    [TEXTS, { schedule: SCHEDULE, lora: { rank: 4, targets: "all-linear", rankStabilized: true }, train: "all" }],
    [TEXTS, { heldOut: TEXTS, evaluateEvery: 2, patience: 3, keep: "best", signal: new AbortController().signal }],
    [MASKED, { maskRate: 0.2, train: "head", learningRate: 0.1, precision: "mixed", from: undefined }],
    [
      { ...CLASSES, texts: [{ text: "a", label: 1, id: 7 }] },
      { train: /x/, dropout: { hidden: 0.1 }, recompute: true },
    ],
  ])("takes %j with %j", async (examples, options) => {
    expect(await finetune(examples, { steps: 1, ...options })).toContain(ASKED);
  });
});

describe("openTraining", () => {
  const open = (options: unknown, recipe: unknown = TINY_RECIPE, on: unknown = engine) =>
    openTraining(on as Engine, recipe, options as never);
  const readText = async () => "";

  it.each([
    [{}, /train: the options must be .*; readText is missing.* There are from, signal, readText, openFile/],
    [{ readText: "text" }, /readText must be Function, got "text"/],
    [{ readText, blah: 1 }, /blah is not known/],
    [{ readText, from: "./run" }, /from must be Object/],
    [{ readText, signal: true }, /signal must be AbortSignal, got true/],
    [undefined, /options is missing/],
  ])("refuses %j before it reads anything", async (options, message) => {
    await expect(open(options)).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(message) as string,
    });
  });

  it("refuses a recipe that is none, and what is no engine", async () => {
    await expect(open({ readText }, null)).rejects.toThrow(/recipe must be Object, got null/);
    await expect(open({ readText }, { ...TINY_RECIPE, precision: "f8" })).rejects.toThrow(/precision must be/);
    const optimizer = { type: "adamw", beta1: 1 };
    await expect(open({ readText }, { ...TINY_RECIPE, optimizer })).rejects.toThrow(
      /optimizer\.beta1 must be <1, got 1/,
    );
    await expect(open({ readText }, TINY_RECIPE, {})).rejects.toThrow(
      /the first argument must be an engine; got object/,
    );
  });
});
