import { expect, it } from "vitest";
import { type Checkpoint, openCheckpoint } from "../../src/formats/checkpoint.ts";
import { isPacked } from "../../src/core/dtype.ts";
import type { Device } from "../../src/gpu/device.ts";
import { filesSource } from "../../src/sources/files.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { EncoderModel } from "../../src/tasks/encoder_model.ts";
import { TextModel } from "../../src/tasks/text_model.ts";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { Finetuning, type FinetuneOptions } from "../../src/train/finetune.ts";
import { trainTokenizer } from "../../src/train/tokenizer/train_tokenizer.ts";
import { Training } from "../../src/train/training.ts";
import { describeOnDevice } from "../support/devices.ts";
import { encoderGoldenPath } from "../support/encoder_goldens.ts";
import { llamaMetadata, writeGguf } from "../support/gguf.ts";
import { ggufTensors } from "../support/to_gguf.ts";
import { readTinyText, sourceOf, TINY_RECIPE } from "./tiny.ts";

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

/** Every row of its matrices is a whole number of blocks. */
const LLAMA = {
  ...{ architectures: ["LlamaForCausalLM"], model_type: "llama", hidden_size: 64, intermediate_size: 96 },
  ...{ num_hidden_layers: 2, num_attention_heads: 4, num_key_value_heads: 2, max_position_embeddings: 16 },
  ...{ vocab_size: 40, rms_norm_eps: 1e-5, tie_word_embeddings: false, bos_token_id: null, eos_token_id: null },
};

/** Bytes of its matrices in f32, and what is left of them. */
const MATRICES_BYTES = 4 * (2 * 40 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 96));
const SHARES = { q8_0: 34 / 128, q4_0: 18 / 128, f16: 0.5 } as const;

/** A small model that has learnt a text. */
async function makeBase(device: Device): Promise<Checkpoint> {
  const recipe = { ...TINY_RECIPE, model: LLAMA, steps: 20 };
  const training = await Training.open(device, recipe, { readText: readTinyText });
  try {
    for await (const _ of training);
    return await openCheckpoint(sourceOf(await training.files()));
  } finally {
    await training.dispose();
  }
}

async function tune(device: Device, checkpoint: Checkpoint, options: FinetuneOptions) {
  const tuning = await Finetuning.open(device, checkpoint, options);
  const losses: number[] = [];
  for await (const { loss } of tuning) losses.push(loss);
  return { tuning, losses, held: (await tuning.evaluate()) ?? Number.NaN };
}

describeOnDevice("an adapter on a quantised base", (device) => {
  it.each(["q8_0", "q4_0", "f16"] as const)("learns what one on f32 learns, the base in %s", async (base) => {
    const checkpoint = await makeBase(device());
    const idle = device().bytesInUse;
    const exact = await tune(device(), checkpoint, OPTIONS);
    const bytesOfExact = device().bytesInUse - idle;
    await exact.tuning.dispose();
    const packed = await tune(device(), checkpoint, { ...OPTIONS, base });
    expect(device().bytesInUse - idle).toBeLessThan(bytesOfExact - MATRICES_BYTES * (1 - SHARES[base]) * 0.99);
    // Blocks of q4_0 change the base by some percent of its weights, which the first loss shows too.
    const off = base === "q4_0" ? 0.1 : 0.02;
    expect(Math.abs((packed.losses[0] ?? 0) / (exact.losses[0] ?? 1) - 1)).toBeLessThan(off);
    expect(packed.losses.at(-1)).toBeLessThan(0.8 * (packed.losses[0] ?? 0));
    expect(Math.abs((packed.losses.at(-1) ?? 0) / (exact.losses.at(-1) ?? 1) - 1)).toBeLessThan(2 * off);
    await packed.tuning.dispose();
  });

  it("trains in mixed precision on q8_0", async () => {
    if (!device().facts.f16) return;
    const checkpoint = await makeBase(device());
    const { tuning, losses } = await tune(device(), checkpoint, { ...OPTIONS, base: "q8_0", precision: "mixed" });
    expect(losses.at(-1)).toBeLessThan(0.8 * (losses[0] ?? 0));
    await tuning.dispose();
  });

  it("merges into the base as it was published, and leaves nothing behind", async () => {
    const checkpoint = await makeBase(device());
    const before = device().bytesInUse;
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

  it("trains beside the blocks of a GGUF file as they are, and leaves the merging to others", async () => {
    const hub = await makeBase(device());
    const blob = new Blob([writeGguf(llamaMetadata(hub.config), await ggufTensors(hub, "llama", "q8_0"))]);
    const checkpoint = await openCheckpoint(filesSource(new Map([["model.gguf", blob]])));
    const { tuning, losses } = await tune(device(), checkpoint, OPTIONS);
    expect(tuning.canMerge).toBe(false);
    expect(losses.at(-1)).toBeLessThan(0.8 * (losses[0] ?? 0));
    expect([...(await tuning.adapterFiles("base")).keys()]).toContain("adapter_model.safetensors");
    await expect(tuning.files()).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringMatching(/which is quantised.*adapterFiles/),
    });
    await tuning.dispose();
  });

  it("refuses to train a quantised base itself", async () => {
    const { lora: _, ...whole } = OPTIONS;
    const checkpoint = await makeBase(device());
    await expect(Finetuning.open(device(), checkpoint, { ...whole, base: "q8_0" })).rejects.toThrow(/needs lora/);
  });
});
