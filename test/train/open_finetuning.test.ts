import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { filesSource } from "../../src/sources/files.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { type FinetuneExamples, openFinetuning } from "../../src/train/index.ts";
import { assertClose } from "../support/close.ts";
import { Engine } from "../../src/tasks/engine.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { describeOnDevice } from "../support/devices.ts";
import { writeSeq2SeqFolder } from "../support/seq2seq_folder.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";

const SHAKESPEARE = fileURLToPath(new URL("../../models/shakespeare", import.meta.url));
const TEXT = "the cat sat on the mat. the dog sat on the log. ".repeat(4);
const SIZES = { steps: 3, batch: 2, length: 16, learningRate: 0.01, seed: 1 };

/** Files as {@link filesSource} takes them. */
function asFiles(files: Iterable<readonly [string, readonly Uint8Array[] | string]>): Map<string, Blob> {
  return new Map(
    [...files].map(([name, parts]) => [
      name,
      new Blob(typeof parts === "string" ? [parts] : [...parts].map((part) => new Uint8Array(part))),
    ]),
  );
}

describeOnDevice("openFinetuning", (device) => {
  const engine = () => new Engine(device(), openSource);

  it("trains an adapter whose model, files loaded beside the base, and files merged all compute the same", async () => {
    const source = await folderSource(SHAKESPEARE);
    const examples = { task: "lm", texts: [TEXT] } as const;
    const held = { task: "lm", texts: ["the cat sat on the log."] } as const;
    const tuning = await openFinetuning(engine(), source, examples, { ...SIZES, lora: { rank: 4 }, heldOut: held });
    const base = await engine().load(source, { dtype: "f32" });
    const ids = base.tokenizer?.encode("the cat") ?? [];
    const lastOf = async (model: typeof base) => (await model.logits(ids)).at(-1) ?? new Float32Array();
    const before = await lastOf(base);
    const live = await tuning.model();
    assertClose(await lastOf(live), before, { atol: 1e-5, rtol: 1e-5 });

    const losses: number[] = [];
    for await (const { loss, validationLoss } of tuning) {
      losses.push(loss);
      if (losses.length === SIZES.steps) expect(validationLoss).toBeGreaterThan(0);
    }
    expect(losses.at(-1)!).toBeLessThan(losses[0]!);
    const after = await lastOf(live);
    expect(() => assertClose(after, before, { atol: 1e-2, rtol: 1e-2 })).toThrow();

    const adapter = filesSource(asFiles(await tuning.adapterFiles("shakespeare")));
    await engine().loadAdapter(base, adapter, { name: "cats" });
    assertClose(await lastOf(base), after, { atol: 1e-4, rtol: 1e-4 });
    await base.useAdapter();
    assertClose(await lastOf(base), before, { atol: 1e-5, rtol: 1e-5 });

    const files = asFiles(await tuning.files());
    expect([...files.keys()]).toEqual(expect.arrayContaining(["config.json", "model.safetensors", "tokenizer.json"]));
    const merged = await engine().load(filesSource(files));
    assertClose(await lastOf(merged), after, { atol: 1e-4, rtol: 1e-4 });
    for (const model of [base, merged]) await model.dispose();
    await tuning.dispose();
  });

  it("refuses what is held out for another task, and a model without a tokenizer", async () => {
    const source = await folderSource(SHAKESPEARE);
    const pairs = [{ prompt: "a", completion: "b" }];
    const examples = { task: "completion", pairs } as const;
    const held = { task: "lm", texts: ["a"] } as const;
    await expect(openFinetuning(engine(), source, examples, { ...SIZES, heldOut: held })).rejects.toThrow(
      /must be for completion; got lm/,
    );
    const config = new Blob([(await source.readText("config.json")) ?? ""]);
    const weights = await source.open("model.safetensors");
    const bytes = new Uint8Array((await weights?.read(0, weights.sizeBytes)) ?? []);
    const bare = new Map([
      ["config.json", config],
      ["model.safetensors", new Blob([bytes])],
    ]);
    await expect(openFinetuning(engine(), bare, examples, SIZES)).rejects.toThrow(/a model with a tokenizer is needed/);
  });

  it("refuses a length that the model has no positions for", async () => {
    const long = { task: "lm", texts: [TEXT.repeat(4)] } as const;
    await expect(openFinetuning(engine(), SHAKESPEARE, long, { ...SIZES, length: 257 })).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringMatching(/at most the model's context of 256 tokens; got 257\. Shorten/) as string,
    });
    const tuning = await openFinetuning(engine(), SHAKESPEARE, long, { ...SIZES, length: 256 });
    await tuning.dispose();
    const encoder = tinyEncoder("bert_plain");
    const texts = CATS.map(({ text, label }) => ({ text: `${text} `.repeat(30), label }));
    const unsaid = { task: "classification", texts } as const;
    // Its context is shorter than the default, which gives way.
    const cut = await openFinetuning(engine(), encoder.path, unsaid, { steps: 1 });
    for await (const { loss } of cut) expect(loss).toBeGreaterThan(0);
    await cut.dispose();
    encoder.remove();
  });

  it("refuses to write what it can't, before an adapter is merged and training ends", async () => {
    const examples = { task: "lm", texts: [TEXT] } as const;
    const tuning = await openFinetuning(engine(), SHAKESPEARE, examples, { ...SIZES, lora: { rank: 2 } });
    const usage = (message: RegExp) => ({ code: "USAGE", message: expect.stringMatching(message) as string });
    await expect(tuning.files("q8_0" as "f16")).rejects.toMatchObject(usage(/dtype must be f32 or f16; got "q8_0"/));
    await expect(tuning.files({ dtype: "f16" } as never)).rejects.toMatchObject(usage(/got \{"dtype":"f16"\}/));
    await expect(tuning.adapterFiles("")).rejects.toMatchObject(usage(/name of its base model; got an empty one/));
    await expect(tuning.adapterFiles(5 as never)).rejects.toMatchObject(usage(/got number/));
    for await (const { loss } of tuning) expect(loss).toBeGreaterThan(0);
    await tuning.dispose();
  });

  it("refuses examples that are none, by their number", async () => {
    const encoder = tinyEncoder("bert_plain");
    const open = (examples: FinetuneExamples) => openFinetuning(engine(), encoder.path, examples, SIZES);
    const answers = [{ text: "London", start: 3 }];
    await expect(
      open({ task: "answer", questions: [{ question: "where", context: "ada lived in london", answers }] }),
    ).rejects.toThrow(/example 1: an answer must stand/);
    const sentences = [
      { words: ["ada"], labels: ["NAME"] },
      { words: ["ada", "wrote"], labels: ["NAME"] },
    ];
    await expect(open({ task: "labels", sentences })).rejects.toThrow(/example 2 must have words and as many labels/);
    await expect(open({ task: "translation", pairs: [{ source: "a", target: "b" }] })).rejects.toThrow(
      /encoder–decoder/,
    );
    encoder.remove();
  });

  it.each(["t5", "bart", "marian"] as const)("tunes %s on pairs, and translates between steps", async (name) => {
    const folder = mkdtempSync(join(tmpdir(), "heed-open-"));
    writeSeq2SeqFolder(folder, name);
    const pairs = ["abc cba", "ab ba", "dog god", "tap pat"].map((line) => {
      const [source = "", target = ""] = line.split(" ");
      return { source, target };
    });
    const translating = await openFinetuning(engine(), folder, { task: "translation", pairs }, LEARN);
    expect(await fall(translating)).toBeLessThan(0.9);
    const { text } = await (await translating.model()).translate("abc", { maxTokens: 4 });
    expect(typeof text).toBe("string");
    await translating.dispose();
    rmSync(folder, { recursive: true });
  });

  it.each([
    ["answers", "answer"],
    ["labels of words", "labels"],
    ["masked words", "masked-lm"],
    ["classes", "classification"],
    ["next sentences", "next-sentence"],
  ] as const)("tunes an encoder for %s, and runs it between steps", async (_, task) => {
    const encoder = tinyEncoder("bert_plain");
    const tuning = await openFinetuning(engine(), encoder.path, ENCODER_EXAMPLES[task], LEARN);
    const model = await tuning.model();
    // Which sentences are put together is drawn anew each time, so that so few updates show nothing there.
    expect(await fall(tuning)).toBeLessThan(task === "next-sentence" ? 1.5 : 0.95);
    if (task === "answer")
      expect((await model.answer({ question: "where", context: CONTEXT })).score).toBeGreaterThan(0);
    if (task === "labels") expect((await model.label("ada lived", { aggregation: "none" })).length).toBeGreaterThan(0);
    if (task === "masked-lm") expect((await model.fill("the [MASK] sat")).masks[0]?.length).toBeGreaterThan(0);
    if (task === "classification") expect((await model.classify("the cat")).label).toBe("cat");
    if (task === "next-sentence") {
      const { scores } = await model.classify({ text: "the cat sat.", pair: "a dog sat too." });
      expect(scores.reduce((sum, { score }) => sum + score, 0)).toBeCloseTo(1, 4);
    }
    await tuning.dispose();
    encoder.remove();
  });
});

const LEARN = { steps: 12, batch: 2, length: 24, learningRate: 0.01, seed: 1 };
const CONTEXT = "ada lived in london";
const CATS = [
  { text: "the cat sat on the mat", label: "cat" },
  { text: "a dog sat on the mat", label: "dog" },
];
const ENCODER_EXAMPLES = {
  answer: {
    task: "answer",
    questions: [
      { question: "where", context: CONTEXT, answers: [{ text: "london", start: CONTEXT.indexOf("london") }] },
    ],
  },
  labels: { task: "labels", sentences: [{ words: ["ada", "lived"], labels: ["NAME", "O"] }] },
  "masked-lm": { task: "masked-lm", texts: CATS.map(({ text }) => text) },
  classification: { task: "classification", texts: CATS },
  "next-sentence": {
    task: "next-sentence",
    documents: [
      ["ada lived in london.", "the city was old.", "ada wrote code."],
      ["the cat sat.", "a dog sat too.", "the mat was red."],
    ],
  },
} as const satisfies Record<string, FinetuneExamples>;

/** What the last three losses are beside the first three. */
async function fall(tuning: AsyncIterable<{ readonly loss: number }>): Promise<number> {
  const losses: number[] = [];
  for await (const { loss } of tuning) losses.push(loss);
  const sum = (some: readonly number[]) => some.reduce((a, b) => a + b, 0);
  return sum(losses.slice(-3)) / sum(losses.slice(0, 3));
}
