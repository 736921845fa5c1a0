import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import type { EncoderModel } from "../../src/tasks/encoder_model.ts";
import { createEngineWith, type Engine } from "../../src/tasks/engine.ts";
import type { EncoderGoldenName } from "../support/encoder_goldens.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";

const CONTEXT = "Ada Lovelace wrote the first program.  She lived in London, a big old city, and read one book.";
const QUESTION = "Where did Ada live?";

let engine: Engine;
beforeAll(async () => {
  engine = await createEngineWith({ gpu: await nodeGpu() }, openSource);
});
afterAll(async () => {
  await engine?.dispose();
  expect(engine?.device.buffersInUse).toBe(0);
});

/** Loads a golden encoder with a tokenizer for the tests in `body`. */
function withModel(name: EncoderGoldenName, body: (model: () => EncoderModel) => void, extra = {}): void {
  describe(name, () => {
    const folder = tinyEncoder(name, extra);
    let model: EncoderModel;
    beforeAll(async () => {
      model = await engine.loadEncoder(folder.path);
    });
    afterAll(async () => {
      await model?.dispose();
      folder.remove();
    });
    body(() => model);
  });
}

function softmax(values: readonly number[]): number[] {
  const weights = values.map((x) => Math.exp(x));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
}

withModel("bert_span", (model) => {
  /** Every span of one window by brute force over the logits of the pair. */
  async function bruteForce(context: string) {
    const tokenizer = model().tokenizer;
    if (!tokenizer) throw new Error("no tokenizer");
    const { ids, typeIds, starts } = tokenizer.encodePair(QUESTION, context);
    const { offsets } = tokenizer.encodeWithOffsets(context);
    const got = await model().logits(ids, { typeIds });
    if (!("start_logits" in got)) throw new Error("no starts");
    const at = [0, ...offsets.map((_, i) => starts[1] + i)];
    const [s, e] = [
      softmax(at.map((i) => got.start_logits[i] as number)),
      softmax(at.map((i) => got.end_logits[i] as number)),
    ];
    const spans = offsets.flatMap(([start], i) =>
      offsets
        .slice(i)
        .map(([, end], d) => ({ start, end, score: (s[i + 1] as number) * (e[i + d + 1] as number), tokens: d + 1 })),
    );
    return { none: (s[0] as number) * (e[0] as number), spans: spans.sort((a, b) => b.score - a.score) };
  }

  it("finds the spans that every pair of a start and an end gives, with their places in the text", async () => {
    const context = "Ada lived  in LONDON.";
    const want = await bruteForce(context);
    const { answers, noAnswerScore } = await model().answer(
      { question: QUESTION, context },
      { top: 4, maxAnswerTokens: 3 },
    );
    const short = want.spans.filter(({ tokens }) => tokens <= 3).slice(0, 4);
    expect(answers.map(({ start, end }) => [start, end])).toEqual(short.map(({ start, end }) => [start, end]));
    for (const [i, { score, text, start, end }] of answers.entries()) {
      expect(score).toBeCloseTo(short[i]?.score as number, 5);
      expect(text).toBe(context.slice(start, end));
    }
    expect(noAnswerScore).toBeCloseTo(want.none, 5);
  });

  it("says that there is no answer where that is likelier, unless told not to", async () => {
    const context = "Ada lived in London.";
    const { none, spans } = await bruteForce(context);
    const asked = await model().answer({ question: QUESTION, context });
    const forced = await model().answer({ question: QUESTION, context }, { noAnswer: false });
    expect(forced.start).toBe(spans[0]?.start);
    expect(asked.start === undefined).toBe(none > (spans[0]?.score as number));
    if (asked.start === undefined) expect([asked.text, asked.score]).toEqual(["", asked.noAnswerScore]);
  });

  it("ranks the spans of all windows by the sum of their logits, as probabilities that add up to no more than 1", async () => {
    const tokenizer = model().tokenizer;
    if (!tokenizer) throw new Error("no tokenizer");
    const [maxTokens, stride] = [20, 4];
    const before = tokenizer.encode(QUESTION, { addSpecialTokens: false });
    const { ids, offsets } = tokenizer.encodeWithOffsets(CONTEXT);
    const room = maxTokens - tokenizer.framePair(before, []).ids.length;
    const sums = new Map<string, number>();
    for (let from = 0; from === 0 || from + stride < ids.length; from += room - stride) {
      const part = ids.slice(from, from + room);
      const { ids: framed, typeIds, starts } = tokenizer.framePair(before, part);
      const got = await model().logits(framed, { typeIds });
      if (!("start_logits" in got)) throw new Error("no starts");
      for (let i = 0; i < part.length; i++) {
        for (let j = i; j < part.length; j++) {
          const sum = (got.start_logits[starts[1] + i] as number) + (got.end_logits[starts[1] + j] as number);
          const key = `${offsets[from + i]?.[0]} ${offsets[from + j]?.[1]}`;
          sums.set(key, Math.max(sum, sums.get(key) ?? -Infinity));
        }
      }
    }
    expect(room).toBeLessThan(ids.length);
    const want = [...sums].sort((a, b) => b[1] - a[1]).slice(0, 5);
    const { answers } = await model().answer(
      { question: QUESTION, context: CONTEXT },
      { top: 5, maxTokens, stride, noAnswer: false },
    );
    expect(answers.map(({ start, end }) => `${start} ${end}`)).toEqual(want.map(([key]) => key));
    const [best, second] = answers.map(({ score }) => Math.log(score));
    expect((best as number) - (second as number)).toBeCloseTo((want[0]?.[1] as number) - (want[1]?.[1] as number), 4);
    const all = await model().answer(
      { question: QUESTION, context: CONTEXT },
      { top: 10_000, maxTokens, stride, noAnswer: false },
    );
    expect(all.answers.reduce((sum, { score }) => sum + score, 0)).toBeLessThanOrEqual(1 + 1e-6);
  });

  it("reads a long text in overlapping windows, in batches as one at a time", async () => {
    const questions = [CONTEXT, "Ada lived in London.", ""].map((context) => ({ question: QUESTION, context }));
    const options = { top: 3, maxTokens: 20, stride: 4, noAnswer: false };
    const batched = await model().answer(questions, options);
    for (const [i, question] of questions.entries()) {
      const alone = await model().answer(question, options);
      expect(batched[i]?.answers.map(({ start, end }) => [start, end])).toEqual(
        alone.answers.map(({ start, end }) => [start, end]),
      );
    }
    for (const { start, end, text } of batched[0]?.answers ?? []) expect(CONTEXT.slice(start, end)).toBe(text);
    expect(batched[0]?.answers).toHaveLength(3);
    expect(batched[2]).toMatchObject({ text: "", start: undefined, answers: [] });
    await expect(model().answer({ question: QUESTION.repeat(5), context: "a" })).rejects.toMatchObject({
      code: "LIMIT",
    });
    await expect(model().answer(questions, { maxTokens: 900 })).rejects.toMatchObject({ code: "USAGE" });
    await expect(model().classify("a")).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("has one for answers, so answer and embed work"),
    });
  });
});

withModel("bert_labels", (model) => {
  it("labels tokens with their places, and puts neighbours of one kind together", async () => {
    const text = "Ada Lovelace lived in LONDON";
    const tokenizer = model().tokenizer;
    const { ids, offsets } = tokenizer?.encodeWithOffsets(text) ?? { ids: [], offsets: [] };
    const got = await model().logits(tokenizer?.framePair(ids).ids ?? []);
    const rows = ("logits" in got ? (got.logits as Float32Array[]) : []).slice(1, -1);
    const want = rows.map((row, t) => {
      const scores = softmax([...row]);
      const score = Math.max(...scores);
      return {
        label: model().labels[scores.indexOf(score)] as string,
        score,
        start: offsets[t]?.[0],
        end: offsets[t]?.[1],
      };
    });
    const none = await model().label(text, { aggregation: "none", ignore: [] });
    expect(none.map(({ label, start, end }) => ({ label, start, end }))).toEqual(
      want.map(({ label, start, end }) => ({ label, start, end })),
    );
    for (const [i, { score }] of none.entries()) expect(score).toBeCloseTo(want[i]?.score as number, 5);
    for (const aggregation of ["simple", "first", "average", "max"] as const) {
      const entities = await model().label(text, { aggregation, ignore: [] });
      expect(entities.map((e) => text.slice(e.start, e.end))).toEqual(entities.map((e) => e.text));
      expect(entities.every(({ label }) => !/^[BI]-/.test(label))).toBe(true);
      // Whole words: love and ##lace are one.
      if (aggregation !== "simple") expect(entities.some((e) => e.start > 4 && e.start < 12)).toBe(false);
    }
    expect((await model().label(text)).every(({ label }) => label !== "O")).toBe(true);
  });

  it("labels a text that is longer than the context in windows, every token once", async () => {
    const text = `${CONTEXT} ${CONTEXT}`;
    const tokens = model().tokenizer?.encodeWithOffsets(text).ids.length ?? 0;
    expect(tokens).toBeGreaterThan(model().contextLength);
    const [none = [], short = []] = await model().label([text, "Ada"], { aggregation: "none", ignore: [] });
    expect(none).toHaveLength(tokens);
    expect(short).toHaveLength(1);
    expect(none.every((e, i) => i === 0 || e.start >= (none[i - 1]?.end ?? 0))).toBe(true);
  });
});

withModel("bert_words", (model) => {
  it("gives the words that the logits at each mask rank first", async () => {
    const text = "Ada [MASK] in the [MASK].";
    const { masks, text: filled } = await model().fill(text, { top: 3 });
    const ids = model().tokenizer?.encode(text, { allowSpecial: true }) ?? [];
    const got = await model().logits(ids);
    const rows = "logits" in got ? (got.logits as Float32Array[]) : [];
    const at = ids.flatMap((id, t) => (id === 4 ? [t] : []));
    expect(masks).toHaveLength(2);
    masks.forEach((words, m) => {
      const row = [...(rows[at[m] as number] ?? [])];
      const ranked = row.map((_, id) => id).sort((a, b) => (row[b] as number) - (row[a] as number));
      expect(words.map(({ id }) => id)).toEqual(ranked.slice(0, 3));
      expect(words[0]?.score).toBeCloseTo(softmax(row)[ranked[0] as number] as number, 5);
    });
    expect(filled).toBe(`Ada ${masks[0]?.[0]?.text} in the ${masks[1]?.[0]?.text}.`);
    const batched = await model().fill([text, "[MASK]"], { top: 1 });
    expect(batched.map((b) => b.masks.length)).toEqual([2, 1]);
    // Other special tokens in the text are plain text.
    expect((await model().fill("[MASK] [SEP]")).masks).toHaveLength(1);
    await expect(model().fill("no mask")).rejects.toMatchObject({ code: "USAGE" });
  });
});

withModel("roberta_classes", (model) => {
  it("gives each label its own probability where several may hold", async () => {
    const { scores } = await model().classify("the cat sat on the mat");
    const ids = model().tokenizer?.encode("the cat sat on the mat") ?? [];
    const got = await model().logits(ids);
    const row = "logits" in got ? [...(got.logits as Float32Array)] : [];
    const want = row.map((x, i) => ({ label: model().labels[i], score: 1 / (1 + Math.exp(-x)) }));
    want.sort((a, b) => b.score - a.score);
    scores.forEach(({ label, score }, i) => {
      expect(label).toBe(want[i]?.label);
      expect(score).toBeCloseTo(want[i]?.score as number, 5);
    });
    const long = "the cat sat on the mat and ".repeat(9);
    await expect(model().classify(long)).rejects.toMatchObject({ code: "LIMIT" });
    expect((await model().classify(long, { truncate: true })).truncated).toBe(true);
    expect((await model().classify([{ text: long, pair: long }], { truncate: true }))[0]?.truncated).toBe(true);
  });
});

const SENTENCE_FILES = {
  "modules.json": [
    { idx: 0, name: "0", path: "", type: "sentence_transformers.models.Transformer" },
    { idx: 1, name: "1", path: "1_Pooling", type: "sentence_transformers.models.Pooling" },
    { idx: 2, name: "2", path: "2_Normalize", type: "sentence_transformers.models.Normalize" },
  ],
  "1_Pooling/config.json": {
    word_embedding_dimension: 32,
    pooling_mode_cls_token: true,
    pooling_mode_mean_tokens: true,
  },
  "sentence_bert_config.json": { max_seq_length: 8, do_lower_case: true },
  "config_sentence_transformers.json": { prompts: { query: "who is " } },
};

withModel(
  "bert_plain",
  (model) => {
    it("pools as modules.json says, and cuts at max_seq_length", async () => {
      const [whole, prompted] = [await model().embed("ada"), await model().embed("ada", { prompt: "query" })];
      expect(model().embeddingWidth).toBe(64);
      expect(whole.vector).toHaveLength(64);
      expect(Math.hypot(...whole.vector)).toBeCloseTo(1, 5);
      expect([whole.tokens, prompted.tokens]).toEqual([3, 5]);
      expect(prompted.vector).toEqual((await model().embed("who is ada")).vector);
      const long = await model().embed(CONTEXT);
      expect([long.tokens, long.truncated]).toEqual([8, true]);
      await expect(model().embed(CONTEXT, { truncate: false })).rejects.toMatchObject({ code: "LIMIT" });
      await expect(model().embed("a", { prompt: "none" })).rejects.toMatchObject({ code: "USAGE" });
      expect(await model().similarity("ada", "ada")).toBeCloseTo(1, 5);
      await expect(model().logits([2, 3])).rejects.toMatchObject({ code: "UNSUPPORTED" });
      await expect(model().fill("[MASK]")).rejects.toThrow("has none, so embed alone works");
    });
  },
  SENTENCE_FILES,
);
