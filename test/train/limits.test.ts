import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { Finetuning, type FinetuneOptions } from "../../src/train/finetune.ts";
import type { TokenItem } from "../../src/train/item_batches.ts";
import { trainTokenizer } from "../../src/train/tokenizer/train_tokenizer.ts";
import { Training } from "../../src/train/training.ts";
import { describeOnDevice } from "../support/devices.ts";
import { encoderGoldenPath } from "../support/encoder_goldens.ts";
import { goldenPath } from "../support/goldens.ts";
import { readTinyText, TINY_RECIPE, TINY_TRANSLATION } from "./tiny.ts";

const BERT = {
  ...{ model_type: "bert", hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2 },
  ...{ max_position_embeddings: 16, vocab_size: 10 },
};
const { tokenizer: json, config } = await trainTokenizer(["abc de"], { type: "wordpiece", vocabSize: 40 });
const TUNED = {
  tokenizer: loadTokenizer(json, config),
  ...{ batch: 2, length: 8, steps: 3 },
  optimizer: { type: "adamw", weightDecay: 0 },
  schedule: { type: "constant", learningRate: 1e-2 },
} as const satisfies Partial<FinetuneOptions>;

describeOnDevice("a vocabulary that is too small", (device) => {
  it.each([
    ["a decoder", { ...TINY_RECIPE, model: { ...TINY_RECIPE.model, vocab_size: 10 } }],
    ["a translator", { ...TINY_TRANSLATION, model: { ...TINY_TRANSLATION.model, vocab_size: 10 } }],
    [
      "an encoder",
      {
        ...TINY_RECIPE,
        task: "masked-lm",
        model: BERT,
        tokenizer: { type: "wordpiece", size: 40 },
        data: { text: "text.txt" },
      },
    ],
  ])("is refused for %s from zero", async (_, recipe) => {
    const before = device().bytesInUse;
    await expect(Training.open(device(), recipe, { readText: readTinyText })).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(
        /model\.vocab_size must be at least \d+, the tokenizer's size; got 10\. Leave it out/,
      ),
    });
    expect(device().bytesInUse).toBe(before);
  });

  const decoder = async () => openCheckpoint(await folderSource(goldenPath("llama_gqa")));
  const known: TokenItem = { ids: [5, 6], targets: [6, -100] };
  const beyond: TokenItem = { ids: [5, 100_000], targets: [100_000, -100] };

  it("is refused for examples of a tokenizer that is another model's", async () => {
    const before = device().bytesInUse;
    const message = /below \d+; got 100000 in example 2\. Use the tokenizer/;
    for (const more of [{ items: [known, beyond] }, { items: [known], validation: [known, beyond] }]) {
      const opening = Finetuning.open(device(), await decoder(), { ...TUNED, task: "completion", ...more });
      await expect(opening).rejects.toMatchObject({ code: "USAGE", message: expect.stringMatching(message) });
    }
    expect(device().bytesInUse).toBe(before);
  });

  it("is refused when a streamed example of it is read, and changes nothing", async () => {
    const items = {
      buffer: 2,
      async *read() {
        for (const [i, item] of [known, known, beyond].entries()) yield { line: i + 1, items: [item] };
      },
    };
    const tuning = await Finetuning.open(device(), await decoder(), { ...TUNED, task: "completion", items });
    const losses: number[] = [];
    const going = (async () => {
      for await (const { loss } of tuning) losses.push(loss);
    })();
    await expect(going).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(/tokens must be below \d+, all that the model knows; got 100000/),
    });
    expect([losses.length, tuning.trainer.stepsDone]).toEqual([1, 1]);
    await tuning.dispose();
  });

  it("of classes is refused, too", async () => {
    const checkpoint = await openCheckpoint(await folderSource(encoderGoldenPath("bert_plain")));
    const items = [{ ids: [2, 5, 3], targets: [2] }];
    const opening = Finetuning.open(device(), checkpoint, {
      ...TUNED,
      task: "classification",
      items,
      labels: ["a", "b"],
    });
    await expect(opening).rejects.toMatchObject({ message: expect.stringContaining("below 2; got 2 in example 1") });
  });
});
