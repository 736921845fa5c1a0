import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import type { Engine, EncoderModel, Seq2SeqModel } from "../../src/index.ts";
import { type FinetuneExamples, openFinetuning, openTraining } from "../../src/train/index.ts";
import { assertClose } from "../support/close.ts";
import { describeOnTiers } from "../support/devices.ts";
import { writeSeq2SeqFolder } from "../support/seq2seq_folder.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";
import { readTinyText, sourceOf, TINY_TRANSLATION } from "./tiny.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-live-"));
const encoder = tinyEncoder("bert_plain");
afterAll(() => {
  rmSync(folder, { recursive: true });
  encoder.remove();
});

const SIZES = { steps: 4, batch: 2, length: 16, learningRate: 0.01, seed: 1, dropout: { hidden: 0.1 } };
const PAIRS = ["abc cba", "ab ba", "dog god", "tap pat"].map((line) => {
  const [source = "", target = ""] = line.split(" ");
  return { source, target };
});
const TRANSLATION = { task: "translation", pairs: PAIRS } as const;
const CLASSES = {
  task: "classification",
  texts: [
    { text: "the cat sat on the mat", label: "cat" },
    { text: "a dog sat on the mat", label: "dog" },
    { text: "the old cat", label: "cat" },
    { text: "a big red dog", label: "dog" },
  ],
} as const;
const LORA = { lora: { rank: 2, alpha: 8 } };

/** Losses of a whole tuning, with `between` called before each turn. */
async function lossesOf(
  tuning: AsyncIterable<{ readonly loss: number }>,
  between: () => Promise<unknown> = async () => {},
): Promise<number[]> {
  const losses: number[] = [];
  await between();
  for await (const { loss } of tuning) {
    losses.push(loss);
    await between();
  }
  return losses;
}

/** The losses of the same tuning when nothing looks on. */
async function plainLosses(
  engine: Engine,
  path: string,
  examples: FinetuneExamples,
  how: object = {},
): Promise<number[]> {
  const tuning = await openFinetuning(engine, path, examples, { ...SIZES, ...how });
  const losses = await lossesOf(tuning);
  await tuning.dispose();
  return losses;
}

const filesOf = (files: Iterable<readonly [string, readonly Uint8Array[] | string]>) => sourceOf(new Map(files));
const CLOSE = { atol: 2e-4, rtol: 1e-3 };

/** What a translator says and looks at, in numbers. */
async function translatorNumbers(model: Seq2SeqModel): Promise<number[]> {
  const ids = model.tokenizer?.encode("abc") ?? [];
  const rows = await model.logits(ids, [model.facts.decoderStart, 5, 7]);
  const { attention } = await model.run(ids, [model.facts.decoderStart, 5], { attention: true });
  return [...rows, ...attention.map(({ weights }) => weights ?? new Float32Array())].flatMap((row) => [...row]);
}

/** What an encoder says of texts, in numbers. */
async function encoderNumbers(model: EncoderModel): Promise<number[]> {
  const told = await model.classify(["the dog", "a cat sat"]);
  const { vector } = await model.embed("the dog");
  return [...told.flatMap(({ scores }) => scores.map(({ label, score }) => (label === "cat" ? score : 0))), ...vector];
}

await describeOnTiers("a model while it is tuned", (engine) => {
  it.each([{}, LORA])("translates as the saved one will, and disturbs nothing: %o", async (how) => {
    const path = join(folder, "marian");
    writeSeq2SeqFolder(path, "marian");
    const losses = await plainLosses(engine(), path, TRANSLATION, how);
    const before = engine().device.buffersInUse;
    const tuning = await openFinetuning(engine(), path, TRANSLATION, { ...SIZES, ...how });
    const live: Seq2SeqModel = await tuning.model();
    const first = await translatorNumbers(live);
    expect(await lossesOf(tuning, () => live.translate("abc", { maxTokens: 4 }))).toEqual(losses);
    const last = await translatorNumbers(live);
    expect(() => assertClose(last, first, CLOSE)).toThrow();
    const { text } = await live.translate("abc", { maxTokens: 6 });
    const adapter = tuning.lora ? filesOf(await tuning.adapterFiles("base")) : undefined;
    const saved = await engine().loadSeq2Seq(asSpec(await tuning.files()));
    assertClose(await translatorNumbers(saved), last, CLOSE);
    expect((await saved.translate("abc", { maxTokens: 6 })).text).toBe(text);
    await saved.dispose();
    if (adapter) {
      const base = await engine().loadSeq2Seq(path);
      assertClose(await translatorNumbers(base), first, CLOSE);
      const name = await base.loadAdapter(adapter);
      await base.useAdapter(name);
      assertClose(await translatorNumbers(base), last, CLOSE);
      await base.useAdapter();
      assertClose(await translatorNumbers(base), first, CLOSE);
      await base.mergeAdapter(name);
      assertClose(await translatorNumbers(base), last, CLOSE);
      await base.dispose();
    }
    await tuning.dispose();
    await live.dispose();
    expect(engine().device.buffersInUse).toBe(before);
  });

  it.each([{}, LORA])("classifies as the saved one will, and disturbs nothing: %o", async (how) => {
    const losses = await plainLosses(engine(), encoder.path, CLASSES, how);
    const before = engine().device.buffersInUse;
    const tuning = await openFinetuning(engine(), encoder.path, CLASSES, { ...SIZES, ...how });
    const live: EncoderModel = await tuning.model();
    expect(live.labels).toEqual(["cat", "dog"]);
    const first = await encoderNumbers(live);
    expect(await lossesOf(tuning, () => live.classify("the dog"))).toEqual(losses);
    const last = await encoderNumbers(live);
    expect(() => assertClose(last, first, CLOSE)).toThrow();
    const { attention } = await live.run("the dog", { attention: true });
    const adapter = tuning.lora ? filesOf(await tuning.adapterFiles("base")) : undefined;
    const spec = asSpec(await tuning.files());
    const saved = await engine().loadEncoder(spec);
    assertClose(await encoderNumbers(saved), last, CLOSE);
    const again = await saved.run("the dog", { attention: true });
    assertClose(again.attention[0]?.weights ?? [], attention[0]?.weights ?? [1], CLOSE);
    if (adapter) {
      // The adapter brings its head, so it makes of a model with any such head what was trained.
      const other = await openFinetuning(engine(), encoder.path, CLASSES, { ...SIZES, seed: 9 });
      const based = await engine().loadEncoder(asSpec(await other.files()));
      await other.dispose();
      const name = await based.loadAdapter(adapter);
      const untouched = await encoderNumbers(based);
      await based.useAdapter(name);
      assertClose(await encoderNumbers(based), last, CLOSE);
      await based.useAdapter();
      assertClose(await encoderNumbers(based), untouched, { atol: 0, rtol: 0 });
      await based.dispose();
      const plain = await engine().loadEncoder(encoder.path);
      await expect(plain.loadAdapter(adapter)).rejects.toThrow("brings a head of its own");
      await plain.dispose();
    }
    await saved.dispose();
    await live.dispose();
    await tuning.dispose();
    expect(engine().device.buffersInUse).toBe(before);
  });

  it("translates while it is trained from zero, as the saved one will", async () => {
    const before = engine().device.buffersInUse;
    const options = { readText: readTinyText };
    const plain = await openTraining(engine(), TINY_TRANSLATION, options);
    const losses = await lossesOf(plain);
    await plain.dispose();
    const training = await openTraining(engine(), TINY_TRANSLATION, options);
    const live: Seq2SeqModel = await training.model();
    const turns = await lossesOf(training, () => live.translate("37", { maxTokens: 4 }));
    expect(turns).toEqual(losses);
    const saved = await engine().loadSeq2Seq(asSpec(await training.files()));
    assertClose(await translatorNumbers(saved), await translatorNumbers(live), CLOSE);
    expect((await saved.translate("37", { maxTokens: 4 })).text).toBe(
      (await live.translate("37", { maxTokens: 4 })).text,
    );
    await saved.dispose();
    await training.dispose();
    await expect(live.translate("37")).rejects.toThrow("disposed");
    expect(engine().device.buffersInUse).toBe(before);
  });
});

/** Files as the engine loads them. */
function asSpec(files: Iterable<readonly [string, readonly Uint8Array[] | string]>): Map<string, Blob> {
  return new Map(
    [...files].map(([name, parts]) => [
      name,
      new Blob(typeof parts === "string" ? [parts] : [...parts].map((part) => new Uint8Array(part))),
    ]),
  );
}
