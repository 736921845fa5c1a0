import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../../src/text/tokenizer.ts";
import { type TrainTokenizerOptions, trainTokenizer } from "../../../src/train/tokenizer/train_tokenizer.ts";

interface Golden {
  lines: string[];
  merges: [string, string][];
  vocab: Record<string, number>;
  ids: number[];
}

const golden = JSON.parse(readFileSync(new URL("../../fixtures/trained_bpe.json", import.meta.url), "utf8")) as Golden;

async function train(texts: readonly string[], options: TrainTokenizerOptions) {
  const files = await trainTokenizer(texts, options);
  return { ...files, loaded: loadTokenizer(files.tokenizer, files.config) };
}

describe("trainTokenizer", () => {
  it("learns the merges, ids and tokens of the Hub's own trainer", async () => {
    const { tokenizer, loaded } = await train(golden.lines, {
      type: "bpe",
      vocabSize: 340,
      special: ["<|endoftext|>"],
    });
    const model = tokenizer["model"] as Golden;
    expect(model.merges).toEqual(golden.merges);
    expect(model.vocab).toEqual(golden.vocab);
    expect(loaded.encode(golden.lines.slice(0, 3).join(""))).toEqual(golden.ids);
  });

  it.each([
    { type: "bpe", vocabSize: 300, end: "</s>" },
    { type: "unigram", vocabSize: 60, end: "</s>", special: ["<pad>"] },
    { type: "characters", unknown: "" },
  ] as const)("gives the same files for the same text, and text back: $type", async (options) => {
    const { tokenizer, config, loaded } = await train(golden.lines, options);
    const again = await trainTokenizer(golden.lines, options);
    expect(JSON.stringify([tokenizer, config])).toBe(JSON.stringify([again.tokenizer, again.config]));
    const text = "the cat sat on 我们";
    const ids = loaded.encode(text);
    expect(loaded.decode(ids)).toBe(text);
    if ("end" in options) expect(ids.at(-1)).toBe(loaded.tokenToId("</s>"));
    if (options.type !== "characters") expect(loaded.vocabSize).toBeLessThanOrEqual(options.vocabSize);
  });

  it("keeps the size asked for, the characters, and whole words where they pay", async () => {
    const { loaded, tokenizer } = await train(golden.lines, { type: "unigram", vocabSize: 60 });
    expect(loaded.vocabSize).toBe(60);
    const pieces = (tokenizer["model"] as { vocab: [string, number][] }).vocab.map(([piece]) => piece);
    expect(pieces).toContain("▁the");
    expect(pieces).toContain("😀");
  });

  it("puts WordPiece into BERT's frame and marks what continues a word", async () => {
    const { loaded, tokenizer } = await train(golden.lines, { type: "wordpiece", vocabSize: 120, lowercase: true });
    const ids = loaded.encode("The bandanas");
    expect([ids[0], ids.at(-1)].map((id) => loaded.idToToken(id!))).toEqual(["[CLS]", "[SEP]"]);
    expect(Object.keys((tokenizer["model"] as Golden).vocab).some((piece) => piece.startsWith("##"))).toBe(true);
  });

  it("leaves controls and private characters out for WordPiece, but not code points that are not assigned", async () => {
    const { loaded } = await train(golden.lines, { type: "wordpiece", vocabSize: 120 });
    expect(loaded.encode("\u0007\ue000\u{e0fff}按")).toEqual([2, 1, 1, 3]);
  });

  it("gives WordPiece the continuing form of those characters alone that continue a word", async () => {
    const { tokenizer } = await train(["ab abc 我们", "ab"], { type: "wordpiece", vocabSize: 200, minFrequency: 2 });
    const pieces = Object.keys((tokenizer["model"] as Golden).vocab).slice(5);
    expect(pieces).toEqual(["a", "b", "c", "们", "我", "##b", "##c", "ab"]);
  });

  it("writes scores with so few digits that every reader gets the same numbers, and special tokens once", async () => {
    const { tokenizer, loaded } = await train(golden.lines, { type: "unigram", vocabSize: 60, special: ["a"] });
    const { vocab } = tokenizer["model"] as unknown as { vocab: [string, number][] };
    for (const [, score] of vocab) expect(String(score)).toMatch(/^-?\d+(\.\d{1,10})?$/);
    expect(vocab.filter(([piece]) => piece === "a")).toEqual([["a", 0]]);
    expect(loaded.encode("a", { allowSpecial: true })).toEqual([0]);
  });

  it("lets no piece span two Chinese characters or a punctuation mark if asked", async () => {
    const texts = Array.from({ length: 30 }, () => "我是工程师。 I am here.");
    const { loaded } = await train(texts, { type: "unigram", vocabSize: 40, split: ["han", "punctuation"] });
    expect(loaded.encode("我是。 here.").map((id) => loaded.idToToken(id))).toEqual([
      "▁",
      "我",
      "是",
      "。",
      "▁here",
      ".",
    ]);
  });

  it("stands an unknown character in by its token", async () => {
    const { loaded } = await train(["abc"], { type: "characters" });
    expect(loaded.encode("a?c").map((id) => loaded.idToToken(id))).toEqual(["a", "<unk>", "c"]);
  });

  it("refuses no text, and sizes that hold no piece", async () => {
    await expect(trainTokenizer([], { type: "bpe", vocabSize: 300 })).rejects.toThrow("text is needed to train on");
    await expect(trainTokenizer(["a"], { type: "bpe", vocabSize: 256 })).rejects.toThrow(
      "must hold more than 256 tokens",
    );
  });
});
