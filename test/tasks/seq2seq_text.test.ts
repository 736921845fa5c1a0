import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";
import type { Seq2SeqModel } from "../../src/tasks/seq2seq_model.ts";
import { writeSeq2SeqFolder } from "../support/seq2seq_folder.ts";

const TEXTS = ["hello there.", "a", "what is this, and where does it come from?", "1+1=2"];

describe("an encoder–decoder with a tokenizer", () => {
  const folder = mkdtempSync(join(tmpdir(), "heed-seq2seq-"));
  let engine: Engine;
  let model: Seq2SeqModel;
  beforeAll(async () => {
    const params = {
      summarization: { prefix: "sum: ", num_beams: 1, max_length: 5 },
      translation_en_to_de: { prefix: "en de: ", num_beams: 1 },
      translation_en_to_fr: { prefix: "en fr: ", num_beams: 1 },
    };
    writeSeq2SeqFolder(join(folder, "plain"), "transformer");
    writeSeq2SeqFolder(join(folder, "stated"), "transformer", { task_specific_params: params });
    engine = await createEngineWith({ gpu: await nodeGpu() }, openSource);
    model = await engine.loadSeq2Seq(join(folder, "plain"));
  });
  afterAll(async () => {
    await engine.dispose();
    expect(engine.device.buffersInUse).toBe(0);
    rmSync(folder, { recursive: true });
  });

  it("translates several texts as it translates each alone, greedily and with beams", async () => {
    for (const options of [{ greedy: true }, { beams: 4 }]) {
      const alone = [];
      for (const text of TEXTS) alone.push((await model.translate(text, options)).ids);
      const seen: number[] = [];
      const together = await model.translate(TEXTS, { ...options, onProgress: ({ done }) => seen.push(done) });
      expect(together.map((r) => r.ids)).toEqual(alone);
      expect(seen).toEqual([1, 2, 3, 4]);
      expect(together[0]?.text).toBe(model.targetTokenizer?.decode(together[0]?.ids.generated ?? []));
    }
  });

  it("gives n results of a search, the best first", async () => {
    const { sequences = [], text, score } = await model.translate("hello", { beams: 4, numReturn: 3 });
    expect(sequences).toHaveLength(3);
    expect(sequences[0]).toMatchObject({ text, score });
    expect(sequences.map((s) => s.score)).toEqual(sequences.map((s) => s.score).sort((a, b) => b - a));
  });

  it("streams what it gives as a result, and ends on an abort", async () => {
    const generation = model.translation("hello there.", { greedy: true });
    let text = "";
    for await (const piece of generation) text += piece;
    expect(text).toBe((await generation.result).text);
    const controller = new AbortController();
    controller.abort();
    const aborted = await model.translation("hello", { greedy: true, signal: controller.signal }).result;
    expect(aborted.finish).toBe("abort");
    const search = await model.translation("hello", { beams: 4, signal: controller.signal }).result;
    expect(search.finish).toBe("abort");
  });

  it("refuses sources that are too long or empty, ids that are none, and languages that it has not", async () => {
    expect(() => model.generate("a".repeat(100))).toThrow(/LIMIT|takes 64 tokens/);
    expect(() => model.generate([])).toThrow(/at least one token/);
    expect(() => model.generate([61])).toThrow(/from 0 to 60/);
    await expect(model.translate("hello", { to: "fra" })).rejects.toThrow(/no language "fra"/);
  });

  it("uses the prefixes and settings that the checkpoint states for a task", async () => {
    const stated = await engine.loadSeq2Seq(join(folder, "stated"));
    const given = { greedy: true };
    const summary = await stated.summarize("hello there.");
    expect(summary.ids.generated.length).toBeLessThanOrEqual(4);
    const spelt = await stated.generate("sum: hello there.", { ...given, maxTokens: 4 }).result;
    expect(summary.text).toBe(spelt.text);
    const german = await stated.translate("hello", { ...given, from: "en", to: "de" });
    expect(german.text).toBe((await stated.generate("en de: hello", given).result).text);
    await expect(stated.translate("hello")).rejects.toThrow(/several ways .*en_to_de, .*en_to_fr/);
    await expect(stated.translate("hello", { from: "en", to: "it" })).rejects.toThrow(/states translation_en_to_de/);
    await stated.dispose();
    await expect(stated.translate("hello", { from: "en", to: "de" })).rejects.toThrow(/DISPOSED|was disposed/);
  });

  it("gives the pages of sources back", async () => {
    // Each source takes a page at least; there are far fewer pages than sources.
    const small = await engine.loadSeq2Seq(join(folder, "plain"), { cacheTokens: 256, maxSequences: 6 });
    const texts = Array.from({ length: 40 }, (_, i) => `${i} ${"ab".repeat(i % 13)}`);
    const results = await small.translate(texts, { greedy: true });
    expect(results).toHaveLength(40);
    await small.dispose();
  });
});
