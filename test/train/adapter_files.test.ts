import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { readSafetensorsHeader } from "../../src/formats/safetensors.ts";
import { filesSource } from "../../src/sources/files.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { EncoderModel } from "../../src/tasks/encoder_model.ts";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { Finetuning } from "../../src/train/finetune.ts";
import { trainTokenizer } from "../../src/train/tokenizer/train_tokenizer.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice } from "../support/devices.ts";
import { type EncoderGoldenName, encoderGoldenPath } from "../support/encoder_goldens.ts";

const { tokenizer: json, config } = await trainTokenizer(["abc de"], { type: "wordpiece", vocabSize: 40 });
const tokenizer = loadTokenizer(json, config);

/** Adapters of tasks that hide words, whose heads read the table of tokens: the modules that PEFT brings whole, and what it finds by its name. */
const HEADS: readonly [EncoderGoldenName, "masked-lm" | "pretraining", string[], string[]][] = [
  [
    ...(["bert_words", "pretraining"] as const),
    ["transform.dense", "transform.LayerNorm"]
      .map((name) => `cls.predictions.${name}`)
      .concat(["bert.pooler.dense", "cls.seq_relationship"]),
    ["cls.predictions.bias"],
  ],
  [
    ...(["bert_untied", "masked-lm"] as const),
    ["transform.dense", "transform.LayerNorm", "decoder"].map((name) => `cls.predictions.${name}`),
    [],
  ],
  ["roberta_words", "masked-lm", ["lm_head.dense", "lm_head.layer_norm"], ["lm_head.bias"]],
  ["distilbert_words", "masked-lm", ["vocab_transform", "vocab_layer_norm"], ["vocab_projector.bias"]],
  ["albert_words", "masked-lm", ["predictions.dense", "predictions.LayerNorm"], ["predictions.bias"]],
];

describeOnDevice("the files of an adapter", (device) => {
  it.each(HEADS)(
    "hold each layer whole that modules_to_save names, as PEFT reads them, and load here: %s, %s",
    async (name, task, modules, alone) => {
      const base = await openCheckpoint(await folderSource(encoderGoldenPath(name)));
      const items = [
        { ids: [2, 5, 6, 7, 3], targets: [], next: [8, 9], document: 1 },
        { ids: [2, 8, 9, 6, 3], targets: [], next: [5, 7], document: 2 },
      ];
      const tuning = await Finetuning.open(device(), base, {
        ...{ task, tokenizer, items, batch: 2, length: 16, steps: 3, maskRate: 0.9 },
        optimizer: { type: "adamw" },
        schedule: { type: "constant", learningRate: 0.02 },
        lora: { rank: 2 },
      });
      for await (const _ of tuning);
      const files = [...(await tuning.adapterFiles("base"))].map(([file, parts]) => {
        return new File(
          parts.map((part) => new Uint8Array(part)),
          file,
        );
      });
      const source = filesSource(files);
      const settings = JSON.parse((await source.readText("adapter_config.json")) ?? "");
      expect(settings.modules_to_save.toSorted()).toEqual(modules.toSorted());
      const { tensors } = await readSafetensorsHeader((await source.open("adapter_model.safetensors"))!);
      const whole = [...tensors.keys()].filter((key) => !key.includes(".lora_"));
      const expected = modules.flatMap((module) => [`${module}.weight`, `${module}.bias`]).concat(alone);
      expect(whole.toSorted()).toEqual(expected.map((key) => `base_model.model.${key}`).toSorted());

      const model = await EncoderModel.load(device(), base, { dtype: "f32" });
      const logits = async (of: EncoderModel) => {
        const { logits } = (await of.logits([2, 5, 8, 3])) as { logits: Float32Array[] };
        return logits.flatMap((row) => [...row]);
      };
      const before = await logits(model);
      await model.useAdapter(await model.loadAdapter(source));
      const after = await logits(model);
      expect(() => assertClose(after, before, { atol: 1e-2, rtol: 1e-2 })).toThrow();
      const merged = [...(await tuning.files())].map(([file, parts]) => {
        return new File(typeof parts === "string" ? [parts] : [...parts].map((part) => new Uint8Array(part)), file);
      });
      const written = await EncoderModel.load(device(), filesSource(merged), { dtype: "f32" });
      assertClose(await logits(written), after, { atol: 1e-4, rtol: 1e-4 });
      for (const one of [model, written]) await one.dispose();
      await tuning.dispose();
    },
  );
});
