import { describe, expect, it } from "vitest";
import { everydayCorpus } from "../../../src/train/corpus/everyday.ts";

const sentence = (zh: string): string => zh.replace(/[。？！]$/, "");

describe("everydayCorpus", () => {
  const { train, validation, test } = everydayCorpus();
  const english = new Map(train.map(({ zh, en }) => [sentence(zh), en]));

  it("has the sizes asked for, each sentence once, with one translation", () => {
    expect(english.size).toBeGreaterThanOrEqual(100_000);
    expect([validation.length, test.length]).toEqual([1000, 2000]);
    expect(train.filter(({ zh, en }) => english.get(sentence(zh)) !== en)).toEqual([]);
    expect(new Set(test.map(({ zh }) => sentence(zh))).size).toBe(2000);
  });

  it("holds out what no training sentence says, in words that training has", () => {
    const characters = new Set(train.flatMap(({ zh }) => [...zh]));
    const wordsOf = (en: string): string[] => en.split(/[ .,?!'-]+/);
    const words = new Set(train.flatMap(({ en }) => wordsOf(en)));
    for (const { zh, en } of [...validation, ...test]) {
      expect(english.has(sentence(zh))).toBe(false);
      expect([...zh].filter((c) => !characters.has(c))).toEqual([]);
      expect(wordsOf(en).filter((word) => !words.has(word))).toEqual([]);
    }
  });

  it("is the same for the same seed, and another for another", () => {
    const small = { train: 500, validation: 20, test: 30 };
    expect(everydayCorpus({ ...small, seed: 3 })).toEqual(everydayCorpus({ ...small, seed: 3 }));
    expect(everydayCorpus({ ...small, seed: 4 })).not.toEqual(everydayCorpus({ ...small, seed: 3 }));
  });

  it("has the sentence of the README, with and without its end", () => {
    expect(train).toContainEqual({ zh: "我是一名工程师。", en: "I am an engineer." });
    expect(train).toContainEqual({ zh: "我是一名工程师", en: "I am an engineer." });
  });

  it("agrees: articles, persons, numbers", () => {
    const all = [...train, ...test].map(({ en }) => en);
    const wrong = [
      /\ba [aeio]/i,
      /(?<!')\ban [^aeiou]/i,
      /^(He|She|It|Mary|Tom) (am|are|do|have|were|want|like|need)\b/,
      /^I (is|are|has|does|wants|likes)\b/,
      /^(We|They|You) (am|is|was|has|does|wants|likes)\b/,
      /\b(two|three|four|five|six|seven|eight|nine|ten) \w+[^s\W] of /,
      / {2}|undefined|\b(\w+) \1\b(?<!that that|had had)/,
    ];
    for (const pattern of wrong) expect(all.filter((en) => pattern.test(en)).slice(0, 5)).toEqual([]);
    const asks = train.filter(({ zh }) => /(吗|谁|什么|哪儿)？$/.test(zh));
    expect(asks.length).toBeGreaterThan(5000);
    expect(asks.filter(({ en }) => !en.endsWith("?"))).toEqual([]);
  });
});
