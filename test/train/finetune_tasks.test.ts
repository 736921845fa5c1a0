import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { writeCheckpoint } from "../../src/train/checkpoint_node.ts";
import { Finetuning, type FinetuneOptions } from "../../src/train/finetune.ts";
import { answerItems, translationItem } from "../../src/train/task_items.ts";
import { trainTokenizer } from "../../src/train/tokenizer/train_tokenizer.ts";
import { describeOnDevice } from "../support/devices.ts";
import { type EncoderGoldenName, encoderGoldenPath, readEncoderGolden } from "../support/encoder_goldens.ts";
import { readSeq2SeqGolden, seq2SeqGoldenPath } from "../support/seq2seq_goldens.ts";

const { tokenizer: json, config } = await trainTokenizer(["abc de"], { type: "wordpiece", vocabSize: 40 });
const tokenizer = loadTokenizer(json, config);
const folder = mkdtempSync(join(tmpdir(), "heed-finetune-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Plain descent by a step so small that the loss falls by its first derivative alone. */
const SMALL_STEP = 2e-5;
const COMMON = {
  ...{ tokenizer, batch: 2, length: 40, steps: 1 },
  optimizer: { type: "sgd", clip: 1e9, weightDecay: 0 },
  schedule: { type: "constant", learningRate: SMALL_STEP },
} as const satisfies Partial<FinetuneOptions>;

/** −log softmax(row)[target]. */
function crossEntropy(row: ArrayLike<number>, target: number): number {
  const values = Array.from(row);
  const top = Math.max(...values);
  return Math.log(values.reduce((sum, x) => sum + Math.exp(x - top), 0)) + top - (values[target] ?? Number.NaN);
}

const open = async (path: string) => openCheckpoint(await folderSource(path));

/** The loss before and after an update of {@link SMALL_STEP}, and what the gradient says of their difference. */
async function descend(tuning: Finetuning): Promise<{ loss: number; fallen: number; expected: number }> {
  const before = (await tuning.evaluate()) ?? Number.NaN;
  let [loss, expected] = [Number.NaN, Number.NaN];
  for await (const update of tuning) {
    loss = update.loss;
    expected = SMALL_STEP * update.gradientNorm ** 2;
  }
  const after = (await tuning.evaluate()) ?? Number.NaN;
  return { loss, fallen: before - after, expected };
}

describeOnDevice("finetuning for tasks", (device) => {
  it.each(["bert_span", "distilbert_span"] as const satisfies EncoderGoldenName[])(
    "gives %s the loss of transformers' starts and ends, and its gradient",
    async (name) => {
      const golden = readEncoderGolden(name);
      const length = Math.max(...golden.map(({ ids }) => ids.length));
      // One length, so that no padding is among the positions, as none is in the golden numbers.
      const whole = golden.filter(({ ids }) => ids.length === length).slice(0, 2);
      const targets = [1, Math.min(3, length - 1)];
      const items = whole.map(({ ids, typeIds }) => ({ ids, targets, ...(typeIds ? { segments: typeIds } : {}) }));
      const options = { ...COMMON, task: "answer", length, items, validation: items } as const;
      const tuning = await Finetuning.open(device(), await open(encoderGoldenPath(name)), options);
      const losses = whole.flatMap(({ startLogits, endLogits }) => [
        crossEntropy(startLogits!, targets[0]!),
        crossEntropy(endLogits!, targets[1]!),
      ]);
      const { loss, fallen, expected } = await descend(tuning);
      expect(loss).toBeCloseTo(losses.reduce((a, b) => a + b) / losses.length, 4);
      expect(Math.abs(fallen / expected - 1)).toBeLessThan(0.1);
      expect(tuning.config["architectures"]).toEqual([expect.stringMatching(/ForQuestionAnswering$/)]);
      await tuning.dispose();
    },
  );

  it.each(["transformer", "marian", "t5"] as const)(
    "gives %s the loss of PyTorch's logits, both sides padded, and its gradient",
    async (name) => {
      const cases = readSeq2SeqGolden(name);
      const last = 1;
      const items = cases.map(({ ids, decoderIds }) => ({ ids, targets: [...decoderIds.slice(1), last] }));
      const losses = cases.flatMap(({ logits, decoderIds }, c) => {
        const width = logits.length / decoderIds.length;
        return decoderIds.map((_, t) =>
          crossEntropy(logits.subarray(t * width, (t + 1) * width), items[c]!.targets[t]!),
        );
      });
      // One bucket holds both, so that the update and the evaluation see one batch.
      const mean = losses.reduce((a, b) => a + b) / losses.length;
      const options = { ...COMMON, task: "translation", items, validation: items, batch: 2, length: 40 } as const;
      const tuning = await Finetuning.open(device(), await open(seq2SeqGoldenPath(name)), options);
      expect(await tuning.evaluate()).toBeCloseTo(mean, 3);
      await tuning.dispose();
      const one = { ...options, items: [items[1]!], validation: [items[1]!], batch: 1 };
      const single = await Finetuning.open(device(), await open(seq2SeqGoldenPath(name)), one);
      const { fallen, expected } = await descend(single);
      expect(Math.abs(fallen / expected - 1)).toBeLessThan(0.15);
      await single.dispose();
    },
  );

  it("puts an adapter on a translator and saves it in PEFT's names", async () => {
    const items = readSeq2SeqGolden("marian").map(({ ids, greedy }) => ({ ids, targets: greedy.slice(0, 8) }));
    const options = {
      ...{ ...COMMON, items, steps: 20 },
      task: "translation",
      optimizer: { type: "adamw", weightDecay: 0 },
      schedule: { type: "constant", learningRate: 1e-2 },
      lora: { rank: 2, targets: ["q_proj", "v_proj"] },
    } as const satisfies FinetuneOptions;
    const tuning = await Finetuning.open(device(), await open(seq2SeqGoldenPath("marian")), options);
    const losses: number[] = [];
    for await (const { loss } of tuning) losses.push(loss);
    expect(Math.min(...losses.slice(-3))).toBeLessThan(losses[0]!);
    const files = await tuning.adapterFiles("base");
    const written = JSON.parse(new TextDecoder().decode(files.get("adapter_config.json")![0]));
    expect(written["task_type"]).toBe("SEQ_2_SEQ_LM");
    await tuning.dispose();
  });

  it("goes on from a checkpoint as if it had never stopped", async () => {
    const items = [5, 6, 7, 8].map((id) => ({ ids: [2, id, id + 1, 3], targets: [id % 2] }));
    const options = {
      ...{ ...COMMON, items, labels: ["odd", "even"], steps: 8, length: 8 },
      task: "classification",
      optimizer: { type: "adamw", weightDecay: 0.01 },
      schedule: { type: "linear", learningRate: 1e-2, warmup: 2 },
      lora: { rank: 2, dropout: 0.1 },
    } as const satisfies FinetuneOptions;
    const start = async (from?: string) =>
      Finetuning.open(device(), await open(encoderGoldenPath("bert_plain")), {
        ...options,
        ...(from === undefined ? {} : { from: await folderSource(from) }),
      });
    const whole: number[] = [];
    const first = await start();
    let path = "";
    for await (const { step, loss } of first) {
      whole.push(loss);
      if (step === 3) ({ path } = await writeCheckpoint(folder, step, await first.checkpoint(), 2));
    }
    await first.dispose();
    const second = await start(path);
    const rest: number[] = [];
    for await (const { loss } of second) rest.push(loss);
    expect(rest).toEqual(whole.slice(3));
    await second.dispose();
  });
});

it("finds an answer's first and last token in each window that holds it whole", () => {
  const context = "abc de abc de abc d abc de abc de abc";
  const start = context.indexOf("d abc");
  const answers = [{ text: "d", start }];
  const items = answerItems(tokenizer, { question: "abc", context, answers }, 16);
  expect(items.length).toBeGreaterThan(1);
  const found = items.filter(({ targets }) => targets[0] !== 0);
  expect(found.length).toBeGreaterThan(0);
  for (const { ids, targets } of found) {
    expect(tokenizer.decode(ids.slice(targets[0]!, targets[1]! + 1))).toBe("d");
    expect(ids.length).toBeLessThanOrEqual(16);
  }
  const none = answerItems(tokenizer, { question: "abc", context, answers: [] }, 64);
  expect(none.map(({ targets }) => targets)).toEqual([[0, 0]]);
});

it("refuses a translation without text, and a length without room for one", () => {
  expect(() => translationItem({ source: tokenizer }, { source: "abc", target: " " })).toThrow(/both sides/);
  expect(() => answerItems(tokenizer, { question: "abc", context: "de", answers: [] }, 4)).toThrow(/leave room/);
});
