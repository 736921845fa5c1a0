import { expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { publishedRules } from "../../src/models/head_names.ts";
import { loadWeights } from "../../src/models/load.ts";
import { openModel } from "../../src/models/registry.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { Seq2SeqModel } from "../../src/tasks/seq2seq_model.ts";
import { encodeModel, publishedForm } from "../../src/train/save.ts";
import { assertClose } from "../support/close.ts";
import { describeOnDevice } from "../support/devices.ts";
import { readSeq2SeqGolden, seq2SeqGoldenPath } from "../support/seq2seq_goldens.ts";
import { tolerance } from "../support/tolerances.ts";
import { sourceOf } from "../train/tiny.ts";

describeOnDevice("a 2017 transformer written as Marian's", (device) => {
  it("gives the same logits, with Marian's config and biases of zero", async () => {
    const checkpoint = await openCheckpoint(await folderSource(seq2SeqGoldenPath("transformer")));
    const { model } = openModel(checkpoint.config);
    const weights = await loadWeights(device(), model, checkpoint, { dtype: "f32" });
    const { config, convert } = publishedForm(checkpoint.config);
    const chunks = await encodeModel(publishedRules(model, checkpoint.config), weights.tree, { convert });
    weights.dispose();
    expect(config).toMatchObject({ model_type: "marian", architectures: ["MarianMTModel"], scale_embedding: true });
    const source = sourceOf(
      new Map<string, string | readonly Uint8Array[]>([
        ["config.json", JSON.stringify(config)],
        ["model.safetensors", chunks],
      ]),
    );
    const { tensors } = await openCheckpoint(source);
    expect(tensors.get("final_logits_bias")?.shape).toEqual([1, 61]);
    expect(tensors.get("model.decoder.layers.1.encoder_attn.k_proj.bias")?.shape).toEqual([24]);
    const written = await Seq2SeqModel.load(device(), source);
    for (const { ids, decoderIds, logits } of readSeq2SeqGolden("transformer")) {
      const got = (await written.logits(ids, decoderIds)).flatMap((row) => [...row]);
      assertClose(Float32Array.from(got), logits, { ...tolerance("f32", "logits"), label: "logits" });
    }
    await written.dispose();
  });
});
