import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { folderSource } from "../../src/sources/folder_node.ts";
import type { Engine } from "../../src/tasks/engine.ts";
import { EncoderModel } from "../../src/tasks/encoder_model.ts";
import { Seq2SeqModel } from "../../src/tasks/seq2seq_model.ts";
import { TextModel } from "../../src/tasks/text_model.ts";
import { type AssetArray, decodeArray, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";

interface Expected {
  ids: number[];
  decoderIds: number[];
  logits: AssetArray;
}

const CLOSE = { atol: 1e-4, rtol: 1e-3 };
const SAME = { atol: 1e-6, rtol: 0 };
const KINDS = {
  patterns: "llama_gqa",
  some_layers: "qwen2",
  lora_biases: "gpt_neox",
  dora: "qwen2",
  dora_turned: "gpt2",
  whole_tables: "llama_tied_llama3",
  table_lora: "gemma3",
  head_lora: "qwen3",
  untied_lora: "llama_gqa",
  tokens: "qwen3",
  seq2seq: "marian",
  seq2seq_dora: "t5",
  classes: "bert_classes",
} as const;

function fixture(path: string): string {
  return fileURLToPath(new URL(`../fixtures/${path}`, import.meta.url));
}

/** A golden model with the logits of one input, all rows. */
async function open(engine: Engine, kind: keyof typeof KINDS) {
  const base = KINDS[kind];
  const { ids, decoderIds, logits } = readJson<Expected>(join(fixture(`lora/${kind}`), "expected.json"));
  const source = await folderSource(fixture(`goldens/${base}`));
  const rows = (all: readonly Float32Array[]) => all.flatMap((row) => [...row]);
  const expected = decodeArray(logits);
  if (base === "bert_classes") {
    const model = await EncoderModel.load(engine.device, source, { dtype: "f32" });
    const run = async () => [...((await model.logits(ids)) as { logits: Float32Array }).logits];
    return { model, run, expected };
  }
  if (base === "marian" || base === "t5") {
    const model = await Seq2SeqModel.load(engine.device, source, { dtype: "f32" });
    return { model, run: async () => rows(await model.logits(ids, decoderIds)), expected };
  }
  const model = await TextModel.load(engine.device, source, { dtype: "f32" });
  return { model, run: async () => rows(await model.logits(ids)), expected };
}

await describeOnTiers("kinds of adapters", (engine) => {
  it.each(Object.keys(KINDS) as (keyof typeof KINDS)[])(
    "give PEFT's logits beside the weights, switched and merged: %s",
    async (kind) => {
      const buffers = engine().device.buffersInUse;
      const { model, run, expected } = await open(engine(), kind);
      const bare = await run();
      const adapter = await model.loadAdapter(await folderSource(fixture(`lora/${kind}`)));
      await model.useAdapter(adapter);
      assertClose(await run(), expected, { ...CLOSE, label: "beside" });
      await model.useAdapter();
      assertClose(await run(), bare, { ...SAME, label: "without" });
      await model.mergeAdapter(adapter);
      assertClose(await run(), expected, { ...CLOSE, label: "merged" });
      await model.dispose();
      expect(engine().device.buffersInUse).toBe(buffers);
    },
    60_000,
  );
});
