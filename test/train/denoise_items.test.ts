import { expect, it } from "vitest";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { dropSpans, maskBothSides, pairSentences, sentenceItems } from "../../src/train/denoise_items.ts";
import { uniformGenerator } from "../../src/train/initialise.ts";
import { IGNORED_TARGET } from "../../src/train/losses.ts";
import { sourceItem } from "../../src/train/task_items.ts";
import { trainTokenizer } from "../../src/train/tokenizer/train_tokenizer.ts";

const LETTERS = "abcdefghijklmnopqrstuvwxyz";
const SENTINELS = [0, 1, 2, 3, 4].map((i) => `<extra_id_${i}>`);
const special = ["<pad>", "</s>", "<unk>", "<mask>", ...SENTINELS];
const { tokenizer: json, config } = await trainTokenizer([LETTERS], { type: "characters", special, end: "</s>" });
const tokenizer = loadTokenizer(json, config);
const id = (token: string): number => tokenizer.tokenToId(token) ?? -1;
const TEXT = sourceItem(tokenizer, LETTERS, 40);
const START = 0;

it("cuts a text and ends it", () => {
  expect(TEXT.ids).toEqual([...LETTERS].map(id).concat(id("</s>")));
  expect(sourceItem(tokenizer, LETTERS, 5).ids).toEqual([..."abcd"].map(id).concat(id("</s>")));
});

it("masks a run on the encoder's side and all but that run on the decoder's", () => {
  const vary = maskBothSides(tokenizer, START);
  const uniform = uniformGenerator(5);
  for (let trial = 0; trial < 50; trial++) {
    const { ids, targets, decoder = [] } = vary(TEXT, uniform, []);
    const run = targets.flatMap((target, t) => (target === IGNORED_TARGET ? [] : [t]));
    const [first = 0, last = 0] = [run[0], run.at(-1)];
    expect([run.length, last - first + 1]).toEqual([13, 13]);
    expect(run.map((t) => targets[t])).toEqual(TEXT.ids.slice(first, last + 1));
    // The end is never hidden.
    expect(ids.filter((token, t) => !run.includes(t) && token !== TEXT.ids[t])).toEqual([]);
    expect(run.filter((t) => ids[t] === id("<mask>")).length).toBeGreaterThan(5);
    expect(decoder[0]).toBe(START);
    decoder.slice(1).forEach((token, i) => {
      expect(token).toBe(run.includes(i) ? TEXT.ids[i] : id("<mask>"));
    });
  }
});

it("drops spans behind sentinels, so that both sides together are the text", () => {
  const vary = dropSpans(tokenizer, 0.3);
  const uniform = uniformGenerator(6);
  for (let trial = 0; trial < 50; trial++) {
    const { ids, targets } = vary(TEXT, uniform, []);
    const marks = SENTINELS.map(id);
    expect(ids.filter((token) => marks.includes(token))).toEqual(marks.slice(0, 3));
    expect(targets.filter((token) => marks.includes(token))).toEqual(marks.slice(0, 4));
    expect(targets.at(-1)).toBe(id("</s>"));
    const spans = new Map<number, number[]>();
    for (const token of targets.slice(0, -1)) {
      if (marks.includes(token)) spans.set(token, []);
      else [...spans.values()].at(-1)?.push(token);
    }
    expect(
      [...spans.values()]
        .map((span) => span.length)
        .slice(0, 3)
        .every((n) => n > 0),
    ).toBe(true);
    expect(ids.flatMap((token) => spans.get(token) ?? [token])).toEqual(TEXT.ids);
    expect([...spans.values()].flat()).toHaveLength(8);
  }
});

it("puts the sentence that follows behind another in half of all cases, else one of another document", async () => {
  const trained = await trainTokenizer([LETTERS], { type: "wordpiece", vocabSize: 60 });
  const wordpiece = loadTokenizer(trained.tokenizer, trained.config);
  const items = [
    ...sentenceItems(wordpiece, ["a b", "c d", "e f", "g h"], 1),
    ...sentenceItems(wordpiece, ["i j", "k l", "m n", "o p"], 2),
  ];
  expect(items).toHaveLength(6);
  const vary = pairSentences(wordpiece, 9);
  const uniform = uniformGenerator(7);
  const isNext: number[] = [];
  for (let trial = 0; trial < 400; trial++) {
    const item = items[trial % items.length];
    if (!item) continue;
    const { ids, segments, targets } = vary(item, uniform, items);
    const words = wordpiece.decode(ids).split(" ");
    expect(segments?.filter((segment) => segment === 1)).toHaveLength(3);
    const [first = "", , second = ""] = words;
    const follows = LETTERS.indexOf(second) === LETTERS.indexOf(first) + 2;
    expect(targets).toEqual([follows ? 0 : 1]);
    if (follows) isNext.push(trial);
    // Letters to h are of the first document.
    else expect(first <= "h").not.toBe(second <= "h");
  }
  expect(isNext.length / 400).toBeCloseTo(0.5, 1);
  // Too long: the longer one is cut.
  const long = sentenceItems(wordpiece, ["a b c d e f g h", "i j"], 1);
  const { ids } = pairSentences(wordpiece, 9)(long[0] ?? { ids: [], targets: [] }, () => 0, long);
  expect(wordpiece.decode(ids)).toBe("a b c d i j");
});

it("refuses tokenizers without what it needs", async () => {
  const bare = await trainTokenizer([LETTERS], { type: "characters", special: ["</s>"], end: "</s>" });
  const plain = loadTokenizer(bare.tokenizer, bare.config);
  expect(() => maskBothSides(plain, START)).toThrow(/needs a mask token/);
  expect(() => dropSpans(plain)).toThrow(/needs sentinels/);
  expect(() => pairSentences(tokenizer, 2)).toThrow(/room for two sentences/);
});
