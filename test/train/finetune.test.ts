import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { Finetuning, type FinetuneOptions } from "../../src/train/finetune.ts";
import { completionItem, maskWords, textItem } from "../../src/train/task_items.ts";
import { trainTokenizer } from "../../src/train/tokenizer/train_tokenizer.ts";
import { describeOnDevice } from "../support/devices.ts";
import { encoderGoldenPath } from "../support/encoder_goldens.ts";
import { goldenPath } from "../support/goldens.ts";

const { tokenizer: json, config } = await trainTokenizer(["abc de"], { type: "wordpiece", vocabSize: 40 });
const tokenizer = loadTokenizer(json, config);

const COMMON = {
  tokenizer,
  batch: 4,
  length: 8,
  steps: 30,
  optimizer: { type: "adamw", weightDecay: 0 },
  schedule: { type: "constant", learningRate: 1e-2 },
} as const satisfies Partial<FinetuneOptions>;

describeOnDevice("finetuning", (device) => {
  it("refuses a pattern that matches no parameter, naming some, and leaves nothing on the GPU", async () => {
    const before = device().buffersInUse;
    const checkpoint = await openCheckpoint(await folderSource(goldenPath("llama_gqa")));
    const items = [{ ids: [5, 9], targets: [-100, 25] }];
    const opening = Finetuning.open(device(), checkpoint, { ...COMMON, task: "completion", items, train: /nosuch/ });
    await expect(opening).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(/\/nosuch\/ matches none of \d+, such as model\.embed_tokens\.weight, /) as string,
    });
    expect(device().buffersInUse).toBe(before);
  });

  it.each([
    ["all", {}],
    ["an adapter", { lora: { rank: 2, targets: ["q_proj", "v_proj"] } }],
    ["one layer", { train: /layers\.1\./ }],
  ] as const)("teaches a decoder a completion with %s", async (_, how) => {
    const checkpoint = await openCheckpoint(await folderSource(goldenPath("llama_gqa")));
    const items = [5, 6, 7].map((id) => ({ ids: [id, 9, id + 20], targets: [-100, id + 20, id + 40] }));
    const tuning = await Finetuning.open(device(), checkpoint, { ...COMMON, task: "completion", items, ...how });
    const losses: number[] = [];
    for await (const { loss } of tuning) losses.push(loss);
    expect(losses.at(-1)!).toBeLessThan(0.5 * losses[0]!);
    if ("lora" in how)
      expect([...(await tuning.adapterFiles("base")).keys()]).toEqual([
        "adapter_config.json",
        "adapter_model.safetensors",
      ]);
    const files = await tuning.files();
    expect([...files.keys()]).toEqual(["config.json", "model.safetensors"]);
    await tuning.dispose();
  });

  it.each(["head", "all"] as const)("puts a classifier on an encoder and trains %s", async (train) => {
    const checkpoint = await openCheckpoint(await folderSource(encoderGoldenPath("bert_plain")));
    const items = [5, 6, 7, 8].map((id) => ({ ids: [2, id, id + 1, 3], targets: [id % 2] }));
    const labels = ["odd", "even"];
    const tuning = await Finetuning.open(device(), checkpoint, {
      ...COMMON,
      task: "classification",
      items,
      labels,
      train,
    });
    const losses: number[] = [];
    for await (const { loss } of tuning) losses.push(loss);
    expect(losses.at(-1)!).toBeLessThan(0.8 * losses[0]!);
    expect(tuning.config["architectures"]).toEqual(["BertForSequenceClassification"]);
    await tuning.dispose();
  });
});

it("predicts a completion alone, and every token of a text but the first", () => {
  const item = completionItem(tokenizer, "abc", "de");
  const first = item.targets.findIndex((target) => target !== -100);
  expect(item.prefix).toBe(first + 1);
  expect(item.targets.length).toBe(item.ids.length);
  const text = textItem(tokenizer, "abc de");
  expect(text.targets.slice(0, -1)).toEqual(text.ids.slice(1));
});

it("masks the share that it is asked for: 80 % masks, 10 % others, 10 % as they were, never special tokens", () => {
  const a = tokenizer.tokenToId("a")!;
  const ids = [tokenizer.tokenToId("[CLS]")!, ...Array.from({ length: 5000 }, () => a)];
  let state = 1;
  const uniform = () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
  const masked = maskWords(tokenizer, 0.5)({ ids, targets: [] }, uniform, []);
  const chosen = masked.targets.flatMap((target, t) => (target === -100 ? [] : [t]));
  expect(chosen).not.toContain(0);
  expect(chosen.length / 5000).toBeCloseTo(0.5, 1);
  const share = (id: number) => chosen.filter((t) => masked.ids[t] === id).length / chosen.length;
  expect(share(tokenizer.tokenToId("[MASK]")!)).toBeGreaterThan(0.77);
  expect(share(a)).toBeGreaterThan(0.08);
});
