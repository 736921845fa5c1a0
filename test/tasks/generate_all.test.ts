import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import type { KvDType } from "../../src/ops/kv_pool.ts";
import type { Engine } from "../../src/tasks/engine.ts";
import type { GenerateOptions } from "../../src/tasks/generation_options.ts";
import { describeOnTiers } from "../support/devices.ts";
import { goldenPath } from "../support/goldens.ts";
import { seq2SeqGoldenPath } from "../support/seq2seq_goldens.ts";

const PROMPTS = [[5, 9, 3], [1], [86, 6, 21, 67, 10, 44, 3, 9, 12], [7, 7]];
/** The models that Heed ships: trained, with heads of 32 channels. */
const shipped = (name: string) => fileURLToPath(new URL(`../../models/${name}`, import.meta.url));
const SENTENCES = ["我是一名工程师", "他喜欢喝茶", "你好", "我们明天去北京看朋友", "这本书很有意思"];

await describeOnTiers("several prompts at once", (engine) => {
  it.each([
    ["greedily", { greedy: true, maxTokens: 9 }],
    ["drawn", { temperature: 1, topK: 20, seed: 5, maxTokens: 9 }],
    ["with 3 beams", { beams: 3, numReturn: 2, maxTokens: 7, noRepeatNgram: 2 }],
  ] as [string, GenerateOptions][])("are continued as each alone, %s", async (_, options) => {
    for (const path of [goldenPath("gpt2"), seq2SeqGoldenPath("t5")]) {
      const model = await engine().loadAny(path);
      if (!("generateAll" in model)) throw new Error("it generates");
      const prompts = PROMPTS.map((ids) => ids.map((id) => id % 61));
      const seen: number[] = [];
      const all = await model.generateAll(prompts, { ...options, onProgress: ({ done }) => seen.push(done) });
      expect(seen).toEqual([1, 2, 3, 4]);
      for (const [i, ids] of prompts.entries()) {
        const alone = await model.generate(ids, options).result;
        expect(all[i]?.ids, `${path} ${ids.join()}`).toEqual(alone.ids);
        expect(all[i]?.sequences?.map((s) => s.ids)).toEqual(alone.sequences?.map((s) => s.ids));
      }
      await model.dispose();
    }
  });

  it("take turns where there are not places for all, and leave none taken", async () => {
    const model = await engine().load(goldenPath("gpt2"), { maxSequences: 4 });
    const options = { greedy: true, maxTokens: 5 };
    const many = Array.from({ length: 11 }, (_, i) => [i + 1, i + 2]);
    const all = await model.generateAll(many, options);
    expect(all.map((r) => r.ids.prompt)).toEqual(many);
    await expect(model.generateAll([[1], [500]], options)).rejects.toMatchObject({ code: "USAGE" });
    const aborted = await model.generateAll(many, { ...options, signal: AbortSignal.abort() });
    expect(aborted.map((r) => r.finish)).toEqual(many.map(() => "abort"));
    expect((await model.generateAll(many, options)).map((r) => r.ids)).toEqual(all.map((r) => r.ids));
    await model.dispose();
    await expect(model.generateAll(many, options)).rejects.toMatchObject({ code: "DISPOSED" });
  });

  it("are searched on a cache in q8_0 as on one in f32, with an encoder's keys and without", async () => {
    const translated = await onBoth((cacheDtype) => translations(engine(), cacheDtype));
    expect(translated.q8_0.texts).toEqual(translated.f32.texts);
    const nmse = squares(translated.q8_0.logits, translated.f32.logits) / squares(translated.f32.logits);
    // A byte of a block of 32 is off by 1/254 of the block's largest at most; NMSE of the logits 4e-5 (of shakespeare's 4e-6).
    expect(nmse).toBeLessThan(1e-4);
    expect(nmse).toBeGreaterThan(0);
    const written = await onBoth(async (cacheDtype) => {
      const model = await engine().load(shipped("shakespeare"), { cacheDtype });
      const found = await model.generateAll(["To be", "ROMEO:\nO"], { beams: 4, maxTokens: 40 });
      await model.dispose();
      return found.map(({ text }) => text);
    });
    expect(written.q8_0.map((text) => text.length)).toEqual([40, 40]);
    // Of letter after letter some choice is near a tie.
    expect(written.q8_0.map((text) => text.slice(0, 8))).toEqual(written.f32.map((text) => text.slice(0, 8)));
  });
});

async function translations(engine: Engine, cacheDtype: KvDType) {
  const model = await engine.loadSeq2Seq(shipped("zh_en"), { cacheDtype });
  const texts = (await model.translate(SENTENCES, { beams: 4 })).map(({ text }) => text);
  const ids = model.tokenizer?.encode(SENTENCES[3] ?? "", { addSpecialTokens: true }) ?? [];
  const logits = (await model.logits(ids, [1, 40, 50, 60, 70, 80])).flatMap((row) => [...row]);
  await model.dispose();
  return { texts, logits };
}

async function onBoth<T>(run: (cacheDtype: KvDType) => Promise<T>): Promise<{ f32: T; q8_0: T }> {
  return { f32: await run("f32"), q8_0: await run("q8_0") };
}

function squares(x: readonly number[], y?: readonly number[]): number {
  return x.reduce((sum, value, i) => sum + (value - (y?.[i] ?? 0)) ** 2, 0);
}
