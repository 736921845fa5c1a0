import { expect, it } from "vitest";
import { type Checkpoint, openCheckpoint } from "../../src/formats/checkpoint.ts";
import { isPacked } from "../../src/core/dtype.ts";
import type { Device } from "../../src/gpu/device.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { EncoderModel } from "../../src/tasks/encoder_model.ts";
import { TextModel } from "../../src/tasks/text_model.ts";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { Finetuning, type FinetuneOptions } from "../../src/train/finetune.ts";
import { trainTokenizer } from "../../src/train/tokenizer/train_tokenizer.ts";
import { describeOnDevice } from "../support/devices.ts";
import { encoderGoldenPath } from "../support/encoder_goldens.ts";
import { goldenPath } from "../support/goldens.ts";
import { sourceOf } from "./tiny.ts";

const { tokenizer: json, config } = await trainTokenizer(["abc de"], { type: "wordpiece", vocabSize: 40 });
const tokenizer = loadTokenizer(json, config);
const ITEMS = [3, 5, 7, 9].map((n) => ({
  ids: Array.from({ length: 12 }, (_, t) => (n * t) % 31),
  targets: Array.from({ length: 12 }, (_, t) => (n * (t + 1)) % 31),
}));
const OPTIONS = {
  ...{ task: "lm", tokenizer, items: ITEMS, validation: ITEMS, batch: 4, length: 12, steps: 30 },
  lora: { rank: 4 },
  optimizer: { type: "adamw" },
  schedule: { type: "constant", learningRate: 0.01 },
} as const satisfies FinetuneOptions;

const open = async (path: string): Promise<Checkpoint> => openCheckpoint(await folderSource(path));

async function tune(device: Device, checkpoint: Checkpoint, options: FinetuneOptions) {
  const tuning = await Finetuning.open(device, checkpoint, options);
  const losses: number[] = [];
  for await (const { loss } of tuning) losses.push(loss);
  return { tuning, losses, held: (await tuning.evaluate()) ?? Number.NaN };
}

describeOnDevice("an adapter on a quantised base", (device) => {
  it.each(["q8_0", "q4_0", "f16"] as const)("learns what one on f32 learns, the base in %s", async (base) => {
    const checkpoint = await open(goldenPath("llama_gqa"));
    const exact = await tune(device(), checkpoint, OPTIONS);
    const bytesOfExact = device().bytesInUse;
    await exact.tuning.dispose();
    const packed = await tune(device(), checkpoint, { ...OPTIONS, base });
    expect(device().bytesInUse).toBeLessThan(bytesOfExact);
    // Blocks of q4_0 change the base by some percent of its weights, which the first loss shows too.
    const off = base === "q4_0" ? 0.1 : 0.02;
    expect(Math.abs((packed.losses[0] ?? 0) / (exact.losses[0] ?? 1) - 1)).toBeLessThan(off);
    expect(packed.losses.at(-1)).toBeLessThan(0.8 * (packed.losses[0] ?? 0));
    expect(Math.abs((packed.losses.at(-1) ?? 0) / (exact.losses.at(-1) ?? 1) - 1)).toBeLessThan(2 * off);
    await packed.tuning.dispose();
  });

  it("trains in mixed precision on q8_0", async () => {
    if (!device().facts.f16) return;
    const checkpoint = await open(goldenPath("llama_gqa"));
    const { tuning, losses } = await tune(device(), checkpoint, { ...OPTIONS, base: "q8_0", precision: "mixed" });
    expect(losses.at(-1)).toBeLessThan(0.8 * (losses[0] ?? 0));
    await tuning.dispose();
  });

  it("merges into the base as it was published, and leaves nothing behind", async () => {
    const before = device().bytesInUse;
    const checkpoint = await open(goldenPath("llama_gqa"));
    const { tuning, held } = await tune(device(), checkpoint, { ...OPTIONS, base: "q8_0" });
    expect([...(await tuning.adapterFiles("base")).keys()]).toContain("adapter_model.safetensors");
    const files = await tuning.files();
    await tuning.dispose();
    expect(device().bytesInUse).toBe(before);
    const merged = await openCheckpoint(sourceOf(files));
    expect([...merged.tensors.values()].every(({ format }) => format === "f32" && !isPacked(format))).toBe(true);
    const model = await TextModel.load(device(), merged);
    let [sum, count] = [0, 0];
    for (const { ids, targets } of ITEMS) {
      for (const [t, row] of (await model.logits(ids)).entries()) {
        const top = Math.max(...row);
        const total = row.reduce((all, x) => all + Math.exp(x - top), 0);
        sum += Math.log(total) + top - (row[targets[t] as number] as number);
        count++;
      }
    }
    expect(Math.abs(sum / count / held - 1)).toBeLessThan(0.03);
    await model.dispose();
  });

  it("keeps a head that is trained beside it in f32", async () => {
    const checkpoint = await open(encoderGoldenPath("bert_span"));
    const items = [4, 9].map((n) => ({ ids: Array.from({ length: 10 }, (_, t) => (n * t) % 30), targets: [2, n % 8] }));
    const options = { ...OPTIONS, task: "answer", items, validation: items, length: 10, base: "q8_0" } as const;
    const { tuning, losses } = await tune(device(), checkpoint, options);
    expect(losses.at(-1)).toBeLessThan(0.5 * (losses[0] ?? 0));
    const files = await tuning.files();
    await tuning.dispose();
    const model = await EncoderModel.load(device(), sourceOf(files));
    const { start_logits: starts } = (await model.logits(items[0]?.ids ?? [])) as { start_logits: Float32Array };
    expect(starts.indexOf(Math.max(...starts))).toBe(2);
    await model.dispose();
  });

  it("refuses to train a quantised base itself", async () => {
    const { lora: _, ...whole } = OPTIONS;
    const checkpoint = await open(goldenPath("llama_gqa"));
    await expect(Finetuning.open(device(), checkpoint, { ...whole, base: "q8_0" })).rejects.toThrow(/needs lora/);
  });
});
