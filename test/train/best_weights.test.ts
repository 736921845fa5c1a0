import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import type { Source } from "../../src/core/source.ts";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { readSafetensorsHeader } from "../../src/formats/safetensors.ts";
import type { Device } from "../../src/gpu/device.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { TextModel } from "../../src/tasks/text_model.ts";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { Finetuning, type FinetuneOptions } from "../../src/train/finetune.ts";
import { parseRecipe } from "../../src/train/recipe.ts";
import { trainRecipe } from "../../src/train/run_node.ts";
import type { TrainingProgress } from "../../src/train/trainer.ts";
import { type ModelFiles, Training } from "../../src/train/training.ts";
import { trainTokenizer } from "../../src/train/tokenizer/train_tokenizer.ts";
import { describeOnDevice } from "../support/devices.ts";
import { goldenPath } from "../support/goldens.ts";
import { sourceOf, TINY_RECIPE, TINY_TEXT } from "./tiny.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-best-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Of the same words in another order: what is learnt of them by heart is wrong here. */
const HELD = "log the on cat dog the sat and mat on. the sat the\n".repeat(3);
writeFileSync(join(folder, "text.txt"), TINY_TEXT);
writeFileSync(join(folder, "held.txt"), HELD);
const readText = async (path: string) => readFileSync(join(folder, path), "utf8");

/** A run whose held-out loss falls first and rises then. */
const OVERFITTING = {
  ...TINY_RECIPE,
  data: { text: "text.txt", validation: "held.txt" },
  steps: 200,
  schedule: { type: "constant", learningRate: 0.02 },
  evaluate: { every: 4, patience: 3 },
  checkpoint: { every: 5, keep: 100 },
};

/** The mean loss of a model in a folder over tokens that follow windows, by its logits. */
async function heldLoss(model: TextModel, windows: readonly { ids: number[]; targets: number[] }[]): Promise<number> {
  let [sum, count] = [0, 0];
  for (const { ids, targets } of windows) {
    const rows = await model.logits(ids);
    for (const [t, target] of targets.entries()) {
      const row = rows[t];
      if (target < 0 || !row) continue;
      const most = Math.max(...row);
      sum += most + Math.log(row.reduce((all, x) => all + Math.exp(x - most), 0)) - (row[target] ?? 0);
      count++;
    }
  }
  return sum / count;
}

/** Windows of a text as evaluations cut them. */
function windowsOf(ids: readonly number[], length: number) {
  const starts = Array.from({ length: Math.ceil((ids.length - 1) / length) }, (_, i) => i * length);
  return starts.map((start) => {
    const targets = ids.slice(start + 1, start + 1 + length);
    return { ids: ids.slice(start, start + targets.length), targets };
  });
}

const logOf = (path: string): TrainingProgress[] =>
  readFileSync(join(path, "log.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => ({ ...JSON.parse(line), tokensPerSecond: 0 }));

/** What an iteration tells, but for the time that it took. */
async function told(training: AsyncIterable<TrainingProgress>, until = Number.POSITIVE_INFINITY): Promise<object[]> {
  const seen: object[] = [];
  for await (const { elapsedMs: _, ...progress } of training) {
    seen.push(progress);
    if (progress.step >= until) break;
  }
  return seen;
}

/** Prompts whose completion is another one when they are held out: what they share is learnt first, then what is wrong. */
const IDS = [5, 6, 7, 8];
const completions = (shift: number) =>
  IDS.map((id, i) => {
    const target = 25 + ((i + shift) % IDS.length);
    return { ids: [id, 9, target], targets: [-100, target, 40] };
  });
const { tokenizer: json, config } = await trainTokenizer(["abc de"], { type: "wordpiece", vocabSize: 40 });
const TUNING = {
  task: "completion",
  tokenizer: loadTokenizer(json, config),
  items: completions(0),
  validation: completions(1),
  batch: 4,
  length: 8,
  steps: 60,
  optimizer: { type: "adamw", weightDecay: 0 },
  schedule: { type: "constant", learningRate: 5e-3 },
  evaluateEvery: 2,
  patience: 3,
  seed: 1,
} as const satisfies FinetuneOptions;

/** For what learns faster than an adapter. */
const SLOW = { type: "constant", learningRate: 1e-3 } as const;

async function tune(device: Device, how: Partial<FinetuneOptions> = {}) {
  const checkpoint = await openCheckpoint(await folderSource(goldenPath("llama_gqa")));
  return Finetuning.open(device, checkpoint, { ...TUNING, ...how, task: "completion" });
}

/** A checkpoint without its best weights, or with others in their place. */
function withBest(files: ModelFiles, best: readonly Uint8Array[] | undefined): Source {
  const changed = new Map(files);
  changed.delete("best.safetensors");
  if (best) changed.set("best.safetensors", best);
  return sourceOf(changed);
}

describeOnDevice("the best weights", (device) => {
  it("are those of the folder that a run leaves, whose log says which they are", async () => {
    const output = join(folder, "best");
    const result = await trainRecipe(device(), OVERFITTING, { folder, output });
    const log = logOf(output);
    const held = log.flatMap(({ step, validationLoss: loss }) => (loss === undefined ? [] : [{ step, loss }]));
    const best = held.reduce((a, b) => (b.loss < a.loss ? b : a));
    expect(best.step).toBeGreaterThan(4);
    expect(result).toMatchObject({ steps: best.step + 12, keptStep: best.step, bestStep: best.step });
    expect(log.at(-1)).toMatchObject({ finished: "patience", keptStep: best.step, bestLoss: best.loss });
    expect(held.at(-1)?.loss).toBeGreaterThan(best.loss + 1e-3);
    const model = await TextModel.load(device(), await folderSource(output));
    const windows = windowsOf(model.tokenizer?.encode(HELD) ?? [], OVERFITTING.length);
    expect(Math.abs((await heldLoss(model, windows)) - best.loss)).toBeLessThan(1e-5);
    await model.dispose();
    expect(result.validationLoss).toBe(best.loss);
  });

  it("are the same bit for bit after a kill at any checkpoint, and so is the log", async () => {
    const output = join(folder, "best");
    const checkpoints = join(output, "checkpoints");
    const model = readFileSync(join(output, "model.safetensors"));
    const log = logOf(output);
    const bestStep = log.at(-1)?.keptStep ?? 0;
    const steps = readdirSync(checkpoints).map((name) => Number(name.slice(5)));
    const before = (most: number) => Math.max(...steps.filter((step) => step < most));
    // The end, between the best and the end, before the best, before any evaluation.
    for (const from of [Math.max(...steps), before(bestStep + 8), before(bestStep), Math.min(...steps)]) {
      for (const name of readdirSync(checkpoints))
        if (Number(name.slice(5)) > from) rmSync(join(checkpoints, name), { recursive: true });
      rmSync(join(output, "model.safetensors"));
      const again = await trainRecipe(device(), OVERFITTING, { folder, output, resume: true });
      expect(again).toMatchObject({ keptStep: bestStep, steps: log.length });
      expect(logOf(output)).toEqual(log);
      expect(readFileSync(join(output, "model.safetensors")).equals(model)).toBe(true);
    }
    // The last weights are what training would go on from.
    const last = join(checkpoints, `step-${String(log.length).padStart(8, "0")}`, "model.safetensors");
    expect(readFileSync(last).equals(model)).toBe(false);
  });

  it("are not kept where the last are, which is the default without patience", async () => {
    const { patience: _, ...evaluate } = OVERFITTING.evaluate;
    const recipe = { ...OVERFITTING, steps: 48, checkpoint: { every: 48 }, evaluate };
    const results = [];
    for (const [name, keep] of Object.entries({ default: {}, last: { keep: "last" }, kept: { keep: "best" } })) {
      const output = join(folder, name);
      const result = await trainRecipe(device(), { ...recipe, evaluate: { ...evaluate, ...keep } }, { folder, output });
      const files = readdirSync(join(output, "checkpoints", "step-00000048"));
      const model = readFileSync(join(output, "model.safetensors"));
      results.push({ ...result, output: "", model, hasBest: files.includes("best.safetensors") });
    }
    const [first, last, best] = results;
    expect(first).toEqual(last);
    expect(first).toMatchObject({ keptStep: 48, hasBest: false });
    expect(first?.bestStep).toBeLessThan(48);
    expect(best).toMatchObject({
      steps: 48,
      keptStep: first?.bestStep,
      validationLoss: first?.bestLoss,
      hasBest: true,
    });
    expect(best?.model.equals(first?.model as Buffer)).toBe(false);
  });

  it.each([
    ["an adapter", { lora: { rank: 2 } }],
    ["an adapter beside a quantised base", { lora: { rank: 2 }, base: "q8_0" }],
    ["all of a checkpoint", { schedule: SLOW }],
    ["a layer", { train: /layers\.1\./ }],
  ] as const)("of %s are saved, and only what is trained is copied", async (_, how) => {
    const tuning = await tune(device(), how);
    const progress = await told(tuning);
    const { best, keptStep, stepsDone } = tuning.trainer;
    expect(progress.at(-1)).toMatchObject({ finished: "patience", keptStep, bestLoss: best?.loss });
    expect([keptStep, stepsDone]).toEqual([best?.step, keptStep + 6]);
    expect(keptStep).toBeGreaterThan(2);
    expect(await tuning.evaluate()).toBe(best?.loss);
    const [kept, trained] = await Promise.all(
      ["best.safetensors", "trained.safetensors"].map(async (name) => {
        const file = await sourceOf(await tuning.checkpoint()).open(name);
        return file && readSafetensorsHeader(file);
      }),
    );
    expect([...(kept?.tensors.keys() ?? [])]).toEqual([...(trained?.tensors.keys() ?? [])]);
    if ("lora" in how) for (const name of trained?.tensors.keys() ?? []) expect(name).toContain("lora_");
    const model = await TextModel.load(device(), sourceOf(await tuning.files()));
    // The base that an adapter is merged into is whole again, so a quantised one computes something else.
    const within = "base" in how ? 0.1 : 1e-5;
    expect(Math.abs((await heldLoss(model, TUNING.validation)) - (best?.loss ?? 0))).toBeLessThan(within);
    await model.dispose();
    await tuning.dispose();
  });

  it("of an adapter are the same after a stop at any update, and patience counts on", async () => {
    const lora = { lora: { rank: 2, dropout: 0.1 } };
    const whole = await tune(device(), lora);
    const expected = await told(whole);
    const end = await whole.checkpoint();
    const { stepsDone, best } = whole.trainer;
    const files = await whole.files();
    await whole.dispose();
    const stops = [best?.step ?? 0, (best?.step ?? 0) + 5, stepsDone];
    for (const stop of stops) {
      const first = await tune(device(), lora);
      const before = await told(first, stop);
      const from = sourceOf(await first.checkpoint());
      await first.dispose();
      const second = await tune(device(), { ...lora, from });
      expect([...before, ...(await told(second))]).toEqual(expected);
      expect(await second.checkpoint()).toEqual(end);
      expect(await second.files()).toEqual(files);
      await second.dispose();
    }
  });

  it("of a checkpoint must be those that it names", async () => {
    const first = await tune(device(), { schedule: SLOW });
    await told(first, 3);
    const early = await first.checkpoint();
    await told(first, 5);
    const late = await first.checkpoint();
    await first.dispose();
    const before = device().bytesInUse;
    await expect(tune(device(), { schedule: SLOW, from: withBest(late, undefined) })).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(/got none in .* step 4 was the best.*Go on with keep "last"/),
    });
    const other = early.get("best.safetensors") as readonly Uint8Array[];
    await expect(tune(device(), { schedule: SLOW, from: withBest(late, other) })).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringMatching(/must be whole.*of step 4 with loss .* got step 2/),
    });
    expect(device().bytesInUse).toBe(before);
    const last = await tune(device(), { schedule: SLOW, keep: "last", from: withBest(late, undefined) });
    expect((await told(last)).at(-1)).toMatchObject({ finished: "patience", keptStep: last.trainer.stepsDone });
    expect((await last.checkpoint()).has("best.safetensors")).toBe(false);
    await last.dispose();
  });

  it.each([
    [{ keep: "best", evaluateEvery: undefined, patience: undefined }, /so it needs evaluateEvery; got none/],
    [{ keep: "best", validation: [], evaluateEvery: undefined, patience: undefined }, /need validation; got none/],
  ] as const)("are refused where nothing is evaluated (%#)", async (how, message) => {
    await expect(tune(device(), how as Partial<FinetuneOptions>)).rejects.toThrow(message);
  });

  it("are the weights that a model shows once training has ended", async () => {
    const training = await Training.open(device(), OVERFITTING, { readText });
    const model = await training.model();
    const windows = windowsOf(training.tokenizer.encode(HELD), OVERFITTING.length);
    for await (const { step, validationLoss, finished, bestLoss } of training) {
      if (step !== 8 && !finished) continue;
      const shown = finished ? bestLoss : validationLoss;
      expect(Math.abs((await heldLoss(model, windows)) - (shown ?? 0))).toBeLessThan(1e-5);
    }
    await training.dispose();
  });
});

it.each([
  [{ evaluate: { keep: "best" } }, /keep "best" needs evaluate\.every/],
  [{ evaluate: { every: 4, keep: "best" }, data: { text: "a", validationShare: 0 } }, /needs held-out data.*Name some/],
  [{ evaluate: { every: 4, keep: "best" }, data: { text: "a", buffer: 9 } }, /needs held-out data/],
  [{ evaluate: { every: 4, keep: "best" }, data: { examples: "a" } }, /needs held-out data/],
  [{ evaluate: { every: 4, keep: "best" }, data: { source: "a", target: "b" } }, /needs held-out data/],
  [{ evaluate: { every: 4, keep: "first" } }, /evaluate\.keep/],
])("refuses to keep the best of no evaluations (%#)", (fields, message) => {
  expect(() => parseRecipe({ ...TINY_RECIPE, ...fields })).toThrow(message);
});
