import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import type { LoadDType } from "../../src/models/weight_stream.ts";
import { encodeSafetensors, type TensorToWrite } from "../../src/formats/safetensors_write.ts";
import { filesSource } from "../../src/sources/files.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { EncoderModel } from "../../src/tasks/encoder_model.ts";
import { Seq2SeqModel } from "../../src/tasks/seq2seq_model.ts";
import { TextModel } from "../../src/tasks/text_model.ts";
import { type AssetArray, decodeArray, readJson } from "../support/assets.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice, describeOnTiers } from "../support/devices.ts";

interface Expected {
  ids: number[];
  decoderIds: number[];
  logits: AssetArray;
  logitsQ8?: AssetArray;
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
  one_table: "gemma2",
  table_lora: "gemma3",
  head_lora: "qwen3",
  untied_lora: "llama_gqa",
  tokens: "qwen3",
  seq2seq: "marian",
  seq2seq_dora: "t5",
  seq2seq_head: "bart",
  words_head: "bert_words",
  classes: "bert_classes",
} as const;

function fixture(path: string): string {
  return fileURLToPath(new URL(`../fixtures/${path}`, import.meta.url));
}

function expectedOf(kind: keyof typeof KINDS): Expected {
  return readJson<Expected>(join(fixture(`lora/${kind}`), "expected.json"));
}

/** An adapter with another config, and other names of tensors where there are such (of the same length). */
function changed(
  kind: keyof typeof KINDS,
  fields: Record<string, unknown>,
  names: readonly [string, string] = ["", ""],
) {
  const config = readJson<Record<string, unknown>>(join(fixture(`lora/${kind}`), "adapter_config.json"));
  const weights = readFileSync(join(fixture(`lora/${kind}`), "adapter_model.safetensors"));
  const renamed = Buffer.from(weights.toString("latin1").replaceAll(...names), "latin1");
  return filesSource([
    new File([JSON.stringify({ ...config, ...fields })], "adapter_config.json"),
    new File([names[0] === "" ? weights : renamed], "adapter_model.safetensors"),
  ]);
}

/** A golden model with the logits of one input, all rows. */
async function open(device: Device, kind: keyof typeof KINDS, dtype: LoadDType = "f32") {
  const base = KINDS[kind];
  const { ids, decoderIds, logits } = expectedOf(kind);
  const source = await folderSource(fixture(`goldens/${base}`));
  const rows = (all: readonly Float32Array[]) => all.flatMap((row) => [...row]);
  const expected = decodeArray(logits);
  if (base === "bert_classes") {
    const model = await EncoderModel.load(device, source, { dtype });
    const run = async () => [...((await model.logits(ids)) as { logits: Float32Array }).logits];
    return { model, run, expected };
  }
  if (base === "bert_words") {
    const model = await EncoderModel.load(device, source, { dtype });
    return { model, run: async () => rows(((await model.logits(ids)) as { logits: Float32Array[] }).logits), expected };
  }
  if (base === "marian" || base === "bart" || base === "t5") {
    const model = await Seq2SeqModel.load(device, source, { dtype });
    return { model, run: async () => rows(await model.logits(ids, decoderIds)), expected };
  }
  const model = await TextModel.load(device, source, { dtype });
  return { model, run: async () => rows(await model.logits(ids)), expected };
}

await describeOnTiers("kinds of adapters", (engine) => {
  it.each(Object.keys(KINDS) as (keyof typeof KINDS)[])(
    "give PEFT's logits beside the weights, switched and merged: %s",
    async (kind) => {
      const buffers = engine().device.buffersInUse;
      const { model, run, expected } = await open(engine().device, kind);
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

await describeOnTiers("adapters beside weights in other formats", (engine) => {
  it("compute PEFT's logits for weights in blocks, which can't be merged into", async () => {
    const { model, run } = await open(engine().device, "classes", "q8_0");
    const bare = await run();
    const adapter = await model.loadAdapter(await folderSource(fixture("lora/classes")));
    await model.useAdapter(adapter);
    assertClose(await run(), decodeArray(expectedOf("classes").logitsQ8!), CLOSE);
    await model.useAdapter();
    assertClose(await run(), bare, SAME);
    await expect(model.mergeAdapter(adapter)).rejects.toThrow(/only f32 and f16 weights .* in q8_0. Use it beside/);
    await model.useAdapter(adapter);
    assertClose(await run(), decodeArray(expectedOf("classes").logitsQ8!), CLOSE);
    await model.dispose();
  });

  it.each(["dora", "whole_tables", "table_lora", "tokens"] as const)(
    "come close with weights in f16: %s",
    async (kind) => {
      const { model, run, expected } = await open(engine().device, kind, "f16");
      const bare = await run();
      const adapter = await model.loadAdapter(await folderSource(fixture(`lora/${kind}`)));
      await model.useAdapter(adapter);
      assertClose(await run(), expected, { atol: 2e-2, rtol: 1e-2, label: "beside" });
      await model.useAdapter();
      assertClose(await run(), bare, SAME);
      await model.mergeAdapter(adapter);
      assertClose(await run(), expected, { atol: 3e-2, rtol: 2e-2, label: "merged" });
      await model.dispose();
    },
  );
});

await describeOnTiers("several adapters of a model", (engine) => {
  it("are switched, whether they set the head apart or change the table that it reads", async () => {
    const { model, run, expected: tokens } = await open(engine().device, "tokens");
    const head = decodeArray(expectedOf("head_lora").logits);
    const bare = await run();
    await model.loadAdapter(await folderSource(fixture("lora/tokens")), { name: "tokens" });
    await model.useAdapter("tokens");
    await model.loadAdapter(await folderSource(fixture("lora/head_lora")), { name: "head" });
    assertClose(await run(), tokens, { ...CLOSE, label: "in use while another was loaded" });
    for (const [name, expected] of [
      ["head", head],
      ["tokens", tokens],
      ["head", head],
      [undefined, bare],
    ] as const) {
      await model.useAdapter(name);
      assertClose(await run(), expected, { ...CLOSE, label: `use ${name}` });
    }
    await model.useAdapter("head");
    await model.mergeAdapter("tokens");
    const both = await run();
    await model.mergeAdapter("head");
    assertClose(await run(), both, { ...CLOSE, label: "both merged" });
    expect(() => assertClose(both, head, CLOSE)).toThrow();
    await model.dispose();
  });

  it("follow the weights that another was merged into", async () => {
    const { model, run } = await open(engine().device, "dora");
    await model.loadAdapter(await folderSource(fixture("lora/dora")), { name: "dora" });
    await model.loadAdapter(await folderSource(fixture("lora/some_layers")), { name: "layers" });
    await model.mergeAdapter("layers");
    await model.useAdapter("dora");
    const beside = await run();
    await model.mergeAdapter("dora");
    assertClose(await run(), beside, CLOSE);
    const other = await open(engine().device, "dora");
    await other.model.loadAdapter(await folderSource(fixture("lora/some_layers")), { name: "layers" });
    await other.model.mergeAdapter("layers");
    await other.model.loadAdapter(await folderSource(fixture("lora/dora")), { name: "dora" });
    await other.model.useAdapter("dora");
    assertClose(await other.run(), beside, CLOSE);
    await model.dispose();
    await other.model.dispose();
  });
});

describeOnDevice("files of adapters", (device) => {
  const loaded = async (
    config: Record<string, unknown>,
    tensors: ReadonlyMap<string, TensorToWrite>,
    kind: keyof typeof KINDS = "classes",
  ) => {
    const source = filesSource([
      new File([JSON.stringify({ peft_type: "LORA", r: 1, lora_alpha: 2, ...config })], "adapter_config.json"),
      new File(encodeSafetensors(tensors, {}) as Uint8Array<ArrayBuffer>[], "adapter_model.safetensors"),
    ]);
    const { model, run } = await open(device(), kind, "q8_0");
    try {
      await model.useAdapter(await model.loadAdapter(source));
      return await run();
    } finally {
      await model.dispose();
    }
  };

  const filled = (shape: number[], value: number): TensorToWrite => {
    const data = new Float32Array(shape.reduce((all, n) => all * n, 1)).map((_, i) => value * ((i % 5) - 2));
    return { format: "f32", shape, data };
  };
  const matrices = (layer: string) =>
    [
      [`base_model.model.bert.${layer}.lora_A.weight`, filled([1, 32], 0.1)],
      [`base_model.model.bert.${layer}.lora_B.weight`, filled([32, 1], 0.3)],
    ] as const;

  it("may hold matrices of layers that the model does not run, but not of another head", async () => {
    const query = matrices("encoder.layer.0.attention.self.query");
    const config = { target_modules: "all-linear" };
    const plain = await loaded(config, new Map(query), "words_head");
    assertClose(await loaded(config, new Map([...query, ...matrices("pooler.dense")]), "words_head"), plain, SAME);
    const other = new Map([...query, ["base_model.model.classifier.lora_A.weight", filled([1, 32], 0.1)] as const]);
    await expect(loaded(config, other, "words_head")).rejects.toThrow("must belong to a linear layer of the model");
  });

  it("keep the base's own weights beside matrices, and weights in blocks stay as they were loaded", async () => {
    const query = "encoder.layer.0.attention.self.query";
    const own = (rows: number) => [`base_model.model.bert.${query}.base_layer.weight`, filled([rows, 32], 1)] as const;
    const [left, right] = matrices(query);
    const config = { target_modules: ["query"] };
    const plain = await loaded(config, new Map([left, right]));
    assertClose(await loaded(config, new Map([left, right, own(32)])), plain, SAME);
    const none = await loaded(config, new Map([left, [right[0], filled([32, 1], 0)]]));
    expect(() => assertClose(none, plain, CLOSE)).toThrow();
    const short = new Map([left, right, own(31)]);
    await expect(loaded(config, short)).rejects.toThrow("query.weight must be [32, 32]; got [31");
  });

  it("may be PyTorch's own, as older versions of PEFT wrote them", async () => {
    const { model, run, expected } = await open(device(), "tokens");
    await model.useAdapter(await model.loadAdapter(await folderSource(fixture("lora/tokens_bin"))));
    assertClose(await run(), expected, CLOSE);
    await model.dispose();
  });
});

describeOnDevice("an adapter that can't be right", (device) => {
  it.each<[keyof typeof KINDS, Record<string, unknown>, readonly [string, string], string]>([
    ["patterns", { rank_pattern: {} }, ["", ""], "lora_A must be [4, 72]; got [3, 72]"],
    ["patterns", { exclude_modules: ["q_proj"] }, ["", ""], "leave out model.layers.0.self_attn.q_proj"],
    ["some_layers", { layers_to_transform: [0] }, ["", ""], "leave out model.layers.1.self_attn"],
    ["dora", { use_dora: false }, ["", ""], "exactly where use_dora is true; got use_dora false and one"],
    ["patterns", { use_dora: true }, ["", ""], "exactly where use_dora is true; got use_dora true and none"],
    ["dora", {}, ["lora_magnitude_vector", "lora_magnitude_pector"], "kind of matrices is not known; got model."],
    ["whole_tables", { modules_to_save: ["norm", "layers.0.mlp"] }, ["", ""], "it has no model.layers.0.mlp"],
    ["lora_biases", {}, ["base_layer.bias", "base_layer.bios"], "one of its tensors; got gpt_neox.layers.0"],
    ["tokens", { trainable_token_indices: [5, 8, 97] }, ["", ""], "which has 97; got [5,8,97]"],
  ])("%s with %o is refused: %s", async (kind, fields, names, message) => {
    const { model } = await open(device(), kind);
    await expect(model.loadAdapter(changed(kind, fields, names))).rejects.toThrow(message);
    await model.dispose();
  });

  it.each([
    ["patterns", "model.embed_tokens", [99, 48], "trained with another vocabulary: merge it with PEFT"],
    ["seq2seq", "model.shared", [61, 24], "a table that several parts of the model share can't be changed"],
    ["classes", "score", [3, 32], "brings a head of its own"],
  ] as const)("brings whole what %s has not so: %s %o", async (kind, name, shape, message) => {
    const data = new Float32Array(shape[0] * shape[1]);
    const tensors = new Map([[`base_model.model.${name}.weight`, { format: "f32" as const, shape, data }]]);
    const config = { peft_type: "LORA", r: 1, lora_alpha: 1, target_modules: [], modules_to_save: [name] };
    const source = filesSource([
      new File([JSON.stringify(config)], "adapter_config.json"),
      new File(encodeSafetensors(tensors, {}) as Uint8Array<ArrayBuffer>[], "adapter_model.safetensors"),
    ]);
    const { model } = await open(device(), kind);
    await expect(model.loadAdapter(source)).rejects.toThrow(message);
    await model.dispose();
  });
});
