import { describe, expect, it } from "vitest";
import { createDetokenizer, type DetokenizerOptions } from "../../src/text/detokenizer.ts";

/** Decodes pieces, each of which is its own id; those in `special` are special, those in `added` literal. */
function decode(
  pieces: string[],
  decoder: unknown,
  { special = [], added = [], ...options }: DetokenizerOptions & { special?: string[]; added?: string[] } = {},
): string[] {
  const stream = createDetokenizer(
    {
      idToToken: (id) => pieces[id],
      isSpecial: (id) => special.includes(pieces[id] as string),
      isAdded: (id) => added.includes(pieces[id] as string),
      decoder,
    },
    options,
  );
  return [...pieces.map((_, id) => stream.push(id)), stream.flush()];
}

const strip = (start: number, stop: number) => ({ type: "Strip", content: " ", start, stop });
const FUSE = { type: "Fuse" };
const sequence = (...decoders: unknown[]) => ({ type: "Sequence", decoders });

describe("detokenizer", () => {
  it("joins with spaces where there is no decoder", () => {
    expect(decode(["a", "b"], null)).toEqual(["a", " b", ""]);
  });

  it("strips the ends of the whole text after Fuse, of each piece before it", () => {
    expect(decode([" ", "  a", " b"], sequence(FUSE, strip(2, 0)))).toEqual(["", " a", " b", ""]);
    expect(decode(["x", " a"], sequence(FUSE, strip(2 ** 40, 0)))).toEqual(["x", " a", ""]);
    expect(decode(["a ", " ", " b  "], sequence(FUSE, strip(0, 1))).join("|")).toBe("a| |  b |");
    expect(decode([" a", " b"], strip(1, 0))).toEqual(["a", "b", ""]);
  });

  it("gives an invalid byte as U+FFFD as soon as it is known to be one", () => {
    const bytes = ["<0xE5>", "<0xA5>", "<0xBD>", "<0xFF>", "<0xE5>", "a"];
    expect(decode(bytes, { type: "ByteFallback" })).toEqual(["", "", "好", "\ufffd", "", "\ufffda", ""]);
  });

  it("keeps added tokens literal among bytes, and leaves special ones out", () => {
    const byteLevel = { type: "ByteLevel" };
    expect(decode(["Ġhi", "é", "Ã©"], byteLevel, { added: ["é"] })).toEqual([" hi", "é", "é", ""]);
    expect(decode(["a", "</s>", "b"], byteLevel, { special: ["</s>"], added: ["</s>"] }).join("")).toBe("ab");
    const kept = { special: ["</s>"], added: ["</s>"], skipSpecial: false };
    expect(decode(["a", "</s>", "b"], byteLevel, kept).join("")).toBe("a</s>b");
  });

  it("turns end-of-word suffixes into spaces, but for the last", () => {
    expect(decode(["lo", "w</w>", "er</w>"], { type: "BPEDecoder", suffix: "</w>" })).toEqual(["", "lo", "w ", "er"]);
  });

  it("removes the first space of Metaspace unless it was never added", () => {
    expect(decode(["▁a", "▁b"], { type: "Metaspace", replacement: "▁", prepend_scheme: "always" }).join("")).toBe(
      "a b",
    );
    expect(decode(["▁a", "▁b"], { type: "Metaspace", replacement: "▁", prepend_scheme: "never" }).join("")).toBe(
      " a b",
    );
  });

  it("refuses decoders that cannot stream", () => {
    const regex = { type: "Replace", pattern: { Regex: " +" }, content: " " };
    const wide = sequence(FUSE, { type: "Replace", pattern: { String: "ab" }, content: "" });
    for (const decoder of [{ type: "CTC" }, regex, wide, 3, sequence(null)]) {
      expect(() => decode(["a"], decoder)).toThrow(/tokenizer: the decoder must be one that can stream; got/);
    }
  });
});
