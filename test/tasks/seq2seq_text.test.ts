import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";
import type { Seq2SeqModel } from "../../src/tasks/seq2seq_model.ts";
import { assertClose } from "../support/close.ts";
import { writeSeq2SeqFolder } from "../support/seq2seq_folder.ts";
import { tolerance } from "../support/tolerances.ts";

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
    const result = await generation.result;
    expect(result.text).toBe(text);
    expect(result.ids.source).toEqual(model.tokenizer?.encode("hello there."));
    expect(result.stats.promptTokens).toBe(result.ids.source?.length);
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

  // What transformers' MarianTokenizer, MBart50Tokenizer and MBartTokenizer make of a text, and how their models are begun.
  it.each([
    ["marian", { to: "fra" }, { languages: [">>fra<<"] }, [60], []],
    ["mbart", { from: "de_DE", to: "fr_XX" }, { frame: ["en_XX", "$A", "</s>"] }, [59], []],
    ["mbart", { from: "de_DE", to: "fr_XX" }, { frame: ["$A", "</s>", "en_XX"] }, [], [59]],
    ["mbart", { to: "fr_XX" }, { frame: ["$A", "</s>", "en_XX"] }, [], [58]],
  ] as const)(
    "%s: says %j as the checkpoint's tokenizer says it (%#)",
    async (name, languages, given, before, after) => {
      const codes = { languages: ["en_XX", "de_DE", "fr_XX"], ...given };
      const path = join(folder, `languages ${name} ${before.length}`);
      writeSeq2SeqFolder(path, name, {}, codes);
      const own = await engine.loadSeq2Seq(path);
      const text = own.tokenizer?.encode("hello", { addSpecialTokens: false }) ?? [];
      const { ids } = await own.translate("hello", { ...languages, greedy: true, maxTokens: 4 });
      expect(ids.source).toEqual([...before, ...text, 1, ...after]);
      if (name === "mbart") expect([ids.prompt, ids.generated[0]]).toEqual([[2], 60]);
      await own.dispose();
    },
  );

  it("begins with the language where the checkpoint's start token is one", async () => {
    const path = join(folder, "cc25");
    const start = { decoder_start_token_id: 58 };
    const languages = ["en_XX", "de_DE", "fr_XX"];
    writeSeq2SeqFolder(path, "mbart", start, { languages, frame: ["$A", "</s>", "en_XX"] });
    writeFileSync(join(path, "generation_config.json"), JSON.stringify({ ...start, eos_token_id: 2 }));
    const own = await engine.loadSeq2Seq(path);
    const ids = (await own.translate("hello", { to: "fr_XX", greedy: true, maxTokens: 4 })).ids;
    expect(ids.prompt).toEqual([60]);
    const spelt = own.generate(ids.source ?? [], { decoderIds: [60], greedy: true, maxTokens: 4 });
    expect((await spelt.result).ids.generated).toEqual(ids.generated);
    await own.dispose();
  });

  it("runs with taps: cross-attention captured and made hard, the encoder's values by name", async () => {
    const names = (await model.values({ tokens: 2, sourceTokens: 3 })).map((v) => v.name);
    expect(names).toEqual(
      expect.arrayContaining(["encoder.block.1.attention.probs", "memory.block.0.k", "block.1.cross_attention.probs"]),
    );
    const target = [1, 30, 31];
    const probs = "block.0.cross_attention.probs";
    const plain = await model.run("hello", target, {
      capture: [probs, "encoder.block.0.attention.probs"],
      attention: true,
    });
    const source = model.tokenizer?.encode("hello") ?? [];
    expect(plain.values["encoder.block.0.attention.probs"]?.shape).toEqual([1, 3, source.length, source.length]);
    expect(plain.attention.map((a) => [a.kind, a.layer, a.keys])).toEqual([
      ["memory", 0, source.length],
      ["memory", 1, source.length],
    ]);
    assertClose([...(plain.attention[0]?.weights ?? [])], [...(plain.values[probs]?.data ?? [])], {
      ...tolerance("f32", "attention"),
      label: probs,
    });
    const logits = (await model.logits(source, target)).flatMap((row) => [...row]);
    const flat = (run: { logits?: Float32Array[] }) => (run.logits ?? []).flatMap((row) => [...row]);
    assertClose(flat(plain), logits, { ...tolerance("f32", "logits"), label: "logits" });
    const hard = await model.run("hello", target, { capture: [probs], hard: ["memory"] });
    const weights = [...(hard.values[probs]?.data ?? [])];
    expect(weights.every((w) => w === 0 || w === 1)).toBe(true);
    expect(weights.reduce((a, b) => a + b, 0)).toBe(weights.length / source.length);
    expect(flat(hard)).not.toEqual(flat(plain));
    await expect(model.run("hello", target, { hard: ["memory"], attention: true })).rejects.toThrow(/probs instead/);
  });

  it("lays a translation open step by step: choosing the likeliest token gives the greedy translation", async () => {
    const { ids } = await model.translate("hello there.", { greedy: true, maxTokens: 6 });
    const target = [...ids.prompt];
    for (const id of ids.generated) {
      const step = await model.step("hello there.", target, { candidates: 3 });
      expect(step.target.map((t) => t.id)).toEqual(target);
      expect(step.candidates.map((c) => c.id)[0]).toBe(id);
      expect(step.attention.map((layer) => layer.length)).toEqual([3, 3]);
      for (const row of step.attention.flat()) expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
      target.push(id);
    }
    const hard = await model.step("hello there.", [1], { selection: "hard" });
    expect(hard.source[0]?.piece).toBe("▁");
    for (const row of hard.attention.flat()) expect([...row].sort().slice(-2)).toEqual([0, 1]);
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
