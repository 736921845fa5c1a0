import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import type { Device } from "../../src/gpu/device.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { EncoderModel } from "../../src/tasks/encoder_model.ts";
import { openTokenizers, type Tokenizers } from "../../src/text/open_tokenizers.ts";
import { examplesOf } from "../../src/train/examples.ts";
import { Finetuning } from "../../src/train/finetune.ts";
import { parseRecipe } from "../../src/train/recipe.ts";
import { Training } from "../../src/train/training.ts";
import { describeOnDevice, describeOnTiers } from "../support/devices.ts";
import { readTestSafetensors } from "../support/safetensors.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";
import { expectToResume, losses, sourceOf } from "./tiny.ts";

const WORDS = ["red", "old", "big", "new", "sad", "shy"];
const THINGS = ["cat", "dog", "car", "hat", "map", "sea"];
/** Sentences whose second half follows from the first. */
const PAIRS = WORDS.flatMap((word, w) =>
  THINGS.map((thing, t) => [`the ${word} ${thing} sat`, `a ${thing} is ${WORDS[(w + t) % 6]}`] as const),
);
const jsonl = (all: readonly object[]): string => all.map((o) => `${JSON.stringify(o)}\n`).join("");
const FILES: Readonly<Record<string, string>> = {
  "text.txt": PAIRS.map(([a]) => `${a}\n`).join(""),
  "documents.txt": PAIRS.map(([a, b]) => `${a}\n${b}\n`).join("\n"),
  // Two documents, each of words of its own.
  "topics.txt": [WORDS, THINGS]
    .map((own) => Array.from({ length: 24 }, (_, i) => `${own[i % 6]} ${own[(i * i + 1) % 6]}\n`).join(""))
    .join("\n"),
  "pairs.jsonl": jsonl(PAIRS.map(([source, target]) => ({ source, target }))),
  "prompts.jsonl": jsonl(PAIRS.map(([prompt, completion]) => ({ prompt, completion }))),
  "classes.tsv": PAIRS.map(([a]) => `${a}\t${a.includes("red") || a.includes("old") ? "yes" : "no"}\n`).join(""),
  "labels.jsonl": jsonl(
    PAIRS.map(([a]) => {
      const words = a.split(" ");
      return { words, labels: words.map((word) => (THINGS.includes(word) ? "thing" : "other")) };
    }),
  ),
  "questions.json": JSON.stringify({
    data: [
      {
        title: "t",
        paragraphs: PAIRS.map(([context], i) => {
          const text = THINGS[i % 6] ?? "";
          const answers = [{ text, answer_start: context.indexOf(text) }];
          return { context, qas: [{ id: String(i), question: "what sat", answers }] };
        }),
      },
    ],
  }),
  "source.txt": PAIRS.map(([a]) => `${a}\n`).join(""),
  "target.txt": PAIRS.map(([, b]) => `${b}\n`).join(""),
};

const SIZES = { hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2 };
const ENCODER = { ...SIZES, model_type: "bert", max_position_embeddings: 24, type_vocab_size: 2 };
const ROBERTA = { ...ENCODER, model_type: "roberta", pad_token_id: 1, type_vocab_size: 1 };
const GPT = {
  model_type: "gpt2",
  architectures: ["GPT2LMHeadModel"],
  n_layer: 1,
  n_head: 2,
  n_embd: 16,
  n_positions: 24,
};
const T5 = {
  ...{ model_type: "t5", architectures: ["T5ForConditionalGeneration"], d_model: 16, d_kv: 8, d_ff: 32 },
  ...{
    num_layers: 1,
    num_decoder_layers: 1,
    num_heads: 2,
    decoder_start_token_id: 0,
    pad_token_id: 0,
    eos_token_id: 1,
  },
};
const BART = {
  ...{ model_type: "bart", architectures: ["BartForConditionalGeneration"], d_model: 16, max_position_embeddings: 24 },
  ...{ encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2, decoder_attention_heads: 2 },
  ...{ encoder_ffn_dim: 32, decoder_ffn_dim: 32, decoder_start_token_id: 1 },
};
const WORDPIECE = { type: "wordpiece", size: 60, lowercase: true };
const BPE = { type: "bpe", size: 290, special: ["<s>", "<pad>", "</s>", "<mask>"], start: "<s>", end: "</s>" };
const SPANS = {
  type: "unigram",
  size: 60,
  special: ["<pad>", "</s>", "<unk>", "<extra_id_0>", "<extra_id_1>"],
  end: "</s>",
};
const MASKED = { type: "unigram", size: 60, special: ["<pad>", "</s>", "<unk>", "<mask>"], end: "</s>" };

const COMMON = {
  ...{ batch: 8, length: 20, steps: 30, seed: 3, output: "out" },
  optimizer: { type: "adamw", weightDecay: 0.01 },
  schedule: { type: "constant", learningRate: 0.02, warmup: 3 },
};
const recipe = (task: string, model: object, tokenizer: object, data: object, more: object = {}) => ({
  ...COMMON,
  ...{ task, model, tokenizer, data },
  ...more,
});
const DOCUMENTS = { examples: "documents.txt" };

/** Every task from zero. */
const RECIPES = {
  "masked-lm": recipe("masked-lm", ENCODER, WORDPIECE, { text: "text.txt" }),
  "masked-lm of RoBERTa": recipe("masked-lm", ROBERTA, BPE, { examples: "text.txt" }, { maskRate: 0.3 }),
  "next-sentence": recipe(
    ...(["next-sentence", { ...ENCODER, hidden_size: 32 }, WORDPIECE, { examples: "topics.txt" }] as const),
    {
      ...{ steps: 60, batch: 16, length: 12, initialise: { std: 0.2 } },
      schedule: { type: "constant", learningRate: 6e-3 },
    },
  ),
  pretraining: recipe("pretraining", ENCODER, WORDPIECE, DOCUMENTS),
  "pretraining of pairs": recipe("pretraining", ENCODER, WORDPIECE, { source: "source.txt", target: "target.txt" }),
  classification: recipe("classification", ENCODER, WORDPIECE, { examples: "classes.tsv" }),
  labels: recipe("labels", ENCODER, WORDPIECE, { examples: "labels.jsonl" }),
  answer: recipe("answer", ENCODER, WORDPIECE, { examples: "questions.json" }),
  lm: recipe("lm", GPT, BPE, { examples: "text.txt" }),
  completion: recipe("completion", GPT, BPE, { examples: "prompts.jsonl" }),
  "prefix-lm": recipe("prefix-lm", GPT, BPE, { examples: "prompts.jsonl" }),
  translation: recipe("translation", BART, MASKED, { examples: "pairs.jsonl" }),
  "masked-translation": recipe("masked-translation", BART, MASKED, { examples: "text.txt" }),
  "span-corruption": recipe("span-corruption", T5, SPANS, { text: "text.txt" }),
} as const;

const readText = async (path: string): Promise<string> => FILES[path] ?? "";
const open = (device: Device, asked: unknown, more: Partial<Parameters<typeof Training.open>[2]> = {}) =>
  Training.open(device, asked, { readText, ...more });

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b) / values.length;

await describeOnTiers("training from zero", (engine) => {
  it.each(Object.entries(RECIPES))("learns %s", { timeout: 120_000 }, async (_, asked) => {
    const training = await open(engine().device, asked);
    const all = await losses(training);
    expect(mean(all.slice(-5))).toBeLessThan(0.85 * mean(all.slice(0, 3)));
    await training.dispose();
  });
});

describeOnDevice("training from zero", (device) => {
  it.each([
    ["pretraining", { ...RECIPES.pretraining, accumulate: 2, dropout: { hidden: 0.1, attention: 0.1 } }],
    ["streamed documents", { ...RECIPES.pretraining, data: { ...DOCUMENTS, buffer: 20 }, recompute: true }],
    ["streamed classes", { ...RECIPES.classification, data: { examples: "classes.tsv", buffer: 7 } }],
    ["masked translation", RECIPES["masked-translation"]],
  ])("of %s goes on from a checkpoint bit for bit", { timeout: 120_000 }, async (_, given) => {
    await expectToResume((from) => open(device(), { ...given, steps: 9 }, { from }));
  });

  it("follows both losses of f32 in mixed precision", async () => {
    // Where there is no f16, its refusal is tried in mixed.test.ts.
    if (!device().facts.f16) return;
    const runs: number[][] = [];
    for (const precision of ["f32", "mixed"]) {
      const training = await open(device(), { ...RECIPES.pretraining, steps: 8, precision });
      runs.push(await losses(training));
      await training.dispose();
    }
    for (const [i, loss] of (runs[0] ?? []).entries()) expect(Math.abs(loss - (runs[1]?.[i] ?? 0))).toBeLessThan(0.05);
  });

  it.each([
    ["the heads of a checkpoint that has both", "bert_words", true],
    ["a fresh head beside that of words", "bert_untied", false],
  ] as const)("goes on with pretraining: %s", { timeout: 60_000 }, async (_, name, hasBoth) => {
    const folder = tinyEncoder(name);
    try {
      const checkpoint = await openCheckpoint(await folderSource(folder.path));
      const { source: tokenizer } = (await openTokenizers(checkpoint)) as Tokenizers;
      const documents = ["the old cat sat on the mat", "a dog is in the city", "ada wrote the first program"];
      const { items } = examplesOf(
        documents.map((first, i) => ({ sentences: [first, documents[(i + 1) % 3]] })),
        { task: "pretraining", tokenizers: { source: tokenizer }, length: 20, names: new Map(), isTraining: true },
      );
      const tuning = await Finetuning.open(device(), checkpoint, {
        ...{ task: "pretraining", tokenizer, items, validation: items, batch: 3, length: 20, steps: 25 },
        optimizer: { type: "adamw" },
        schedule: { type: "constant", learningRate: 5e-3 },
      });
      const before = (await tuning.evaluate()) ?? 0;
      const head = "cls.seq_relationship.weight";
      const first = readTestSafetensors(`${folder.path}/model.safetensors`).get(head)?.data;
      const saved = async () => {
        const { tensors } = await openCheckpoint(sourceOf(await tuning.files()));
        const { file, start, end } = tensors.get(head) ?? {};
        return new Float32Array(((await file?.read(start ?? 0, end ?? 0)) ?? new Uint8Array()).slice().buffer);
      };
      if (hasBoth) expect([...(await saved())]).toEqual([...(first ?? [])]);
      else expect(await saved()).toHaveLength(2 * 32);
      for await (const { losses: parts = {} } of tuning) expect(Object.keys(parts)).toHaveLength(2);
      expect((await tuning.evaluate()) ?? Number.NaN).toBeLessThan(before);
      expect(tuning.config["architectures"]).toEqual(["BertForPreTraining"]);
      await tuning.dispose();
    } finally {
      folder.remove();
    }
  });

  it("tells both losses of pretraining apart, and saves BertForPreTraining's names", async () => {
    const data = { ...DOCUMENTS, validationShare: 0.2 };
    const training = await open(device(), { ...RECIPES.pretraining, steps: 2, data, evaluate: { every: 1 } });
    for await (const { loss, losses: parts = {}, validationLoss, validationLosses = {} } of training) {
      expect(Object.keys(parts)).toEqual(["masked_lm_loss", "next_sentence_loss"]);
      expect(loss).toBeCloseTo(mean(Object.values(parts)) * 2, 5);
      expect(validationLoss).toBeCloseTo(mean(Object.values(validationLosses)) * 2, 5);
    }
    const checkpoint = await openCheckpoint(sourceOf(await training.files()));
    expect(checkpoint.config).toMatchObject({ architectures: ["BertForPreTraining"], vocab_size: expect.any(Number) });
    expect([...checkpoint.tensors.keys()]).toEqual(
      expect.arrayContaining([
        ...["bert.embeddings.word_embeddings.weight", "bert.pooler.dense.weight", "bert.pooler.dense.bias"],
        ...[
          "cls.predictions.transform.dense.weight",
          "cls.predictions.transform.LayerNorm.bias",
          "cls.predictions.bias",
        ],
        ...["cls.seq_relationship.weight", "cls.seq_relationship.bias"],
      ]),
    );
    const model = await EncoderModel.load(device(), checkpoint);
    expect((await model.fill("the [MASK] cat sat")).masks[0]).toHaveLength(5);
    await model.dispose();
    await training.dispose();
  });

  it.each([
    [{ ...RECIPES.classification, maskRate: 0.2 }, /maskRate.*classification/],
    [{ ...RECIPES["masked-lm"], generation: {} }, /generation.*masked-lm/],
    [{ ...RECIPES["masked-lm"], maskRate: 0 }, /maskRate/],
    [{ ...RECIPES.answer, data: { ...RECIPES.answer.data, buffer: 2 } }, /data\.buffer does nothing here: task answer/],
    [
      { ...RECIPES["masked-lm"], data: { examples: "a.txt", validation: "b", validationShare: 0.1 } },
      /validationShare/,
    ],
    [{ ...RECIPES["masked-lm"], data: { examples: "text.txt", buffer: 2, validationShare: 0.1 } }, /beside buffer/],
    [{ ...RECIPES["masked-lm"], length: 40 }, /context of 24/],
    [{ ...RECIPES["masked-lm"], model: GPT }, /encoder/],
    [{ ...RECIPES["masked-lm"], tokenizer: { type: "bpe", size: 280 } }, /mask token/],
    [{ ...RECIPES.pretraining, model: ROBERTA, tokenizer: BPE }, /ForNextSentencePrediction/],
    [{ ...RECIPES["span-corruption"], tokenizer: MASKED }, /sentinels/],
    [{ ...RECIPES.classification, data: { grammar: "zh-en" } }, /data\.examples/],
    [{ ...RECIPES.classification, data: { examples: "text.txt" } }, /\.jsonl or \.tsv/],
    [{ ...RECIPES.classification, data: { examples: "pairs.jsonl" } }, /pairs\.jsonl line 1: must have text in "text"/],
    [{ ...RECIPES.pretraining, data: { source: "source.txt", target: "target.txt", buffer: 2 } }, /data\.buffer/],
  ])("refuses a recipe that it can't honour (%#)", async (asked, message) => {
    await expect(open(device(), asked)).rejects.toThrow(message);
  });
});

it("takes every task by the name that heed finetune has for it", () => {
  for (const asked of Object.values(RECIPES)) expect(parseRecipe(asked).task).toBe(asked.task);
});
