import { describe, expect, it } from "vitest";
import { blobFile } from "../../src/train/data/lines.ts";
import type { Batch } from "../../src/train/objective.ts";
import { prepareRecipe } from "../../src/train/prepare.ts";
import { parseRecipe } from "../../src/train/recipe.ts";
import { TINY_RECIPE, TINY_TRANSLATION } from "./tiny.ts";

/** Stands for a byte that is no UTF-8. */
const BAD = "\ufffd";

function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  const parts = text.split(BAD).map((part) => [...new TextEncoder().encode(part)]);
  return Uint8Array.from(parts.flatMap((part, i) => (i === 0 ? part : [0xff, ...part])));
}

type Files = Readonly<Record<string, string>>;

/** A recipe's first batches, and what was told of the files. */
async function batchesOf(recipe: object, files: Files, count = 12) {
  const notes: string[] = [];
  const prepared = await prepareRecipe(parseRecipe(recipe), {
    readText: async (path) => files[path] ?? "",
    openFile: (path) => blobFile(new Blob([bytesOf(files[path] ?? "")]), path),
    onNote: (note) => notes.push(note),
  });
  const batches: Batch["inputs"][] = [];
  for (let i = 0; i < count; i++) batches.push((await prepared.data.next()).inputs);
  return { batches, notes, held: prepared.validation && [...prepared.validation()].map(({ inputs }) => inputs) };
}

const MODEL = { hidden_size: 16, intermediate_size: 16, num_hidden_layers: 1, num_attention_heads: 2 };
const BERT = { model_type: "bert", ...MODEL, max_position_embeddings: 16, type_vocab_size: 2 };
const words = ["cat", "dog", "hat", "mat", "log", "cow", "pig", "hen"];
const texts = words.map((word) => `the ${word} sat`);
const BASE = { ...TINY_RECIPE, tokenizer: { type: "bpe", size: 270 } };
const PAIRS = { ...TINY_TRANSLATION, length: 16 };
const WORDS = { ...TINY_RECIPE, task: "masked-lm", model: BERT, tokenizer: { type: "wordpiece", size: 60 } };

/** Recipes, the files that they read with a bad line 3 (and others), what is wrong with it, and the files without the bad lines. */
const CASES: readonly [name: string, recipe: object, bad: Files, fault: RegExp, bads: string, good: Files][] = [
  [
    "a text",
    { ...BASE, data: { text: "a.txt", validation: "a.txt" } },
    { "a.txt": [...texts.slice(0, 2), BAD, ...texts.slice(2), `x${BAD}`].join("\n") },
    /a\.txt line 3: must be UTF-8/,
    "3, 10",
    { "a.txt": `${texts.join("\n")}\n` },
  ],
  [
    "texts of JSON Lines",
    { ...BASE, data: { text: "a.jsonl", validation: "a.jsonl" } },
    { "a.jsonl": ['{"text":"ab"}', "", "[]", '{"text":"cd efg hij"}'.repeat(1), '{"text":3}'].join("\n") },
    /a\.jsonl line 3: must be a JSON object/,
    "3, 5",
    { "a.jsonl": '{"text":"ab"}\n{"text":"cd efg hij"}\n' },
  ],
  [
    "parallel text",
    { ...PAIRS, data: { source: "a", target: "b", validationSource: "a", validationTarget: "b" } },
    // Both sides empty, one of them, other bytes, and more than the length.
    { a: `ab\ncd\n\nef\n\n${BAD}\n${"a".repeat(40)}\nhi\n`, b: `ba\ndc\n\n \nx\ny\nb\nih\n` },
    /a line 3: must have text; got none/,
    "3, 4, 5, 6, 7",
    { a: "ab\ncd\nhi\n", b: "ba\ndc\nih\n" },
  ],
  [
    "parallel text for words behind masks",
    { ...WORDS, data: { source: "a", target: "b", validationSource: "a", validationTarget: "b" } },
    { a: ["ab", "cd", "", "ef"].join("\n"), b: ["ba", "dc", "x", `f${BAD}`].join("\n") },
    /a line 3: must have text; got none/,
    "3, 4",
    { a: "ab\ncd\n", b: "ba\ndc\n" },
  ],
  [
    "a file of examples",
    { ...WORDS, data: { examples: "a.jsonl", validation: "a.jsonl" } },
    { "a.jsonl": ['{"text":"ab"}', '{"text":"cd"}', '{"text":""}', "{", '{"text":"ef"}'].join("\n") },
    /a\.jsonl line 3: must have text in "text"/,
    "3, 4",
    { "a.jsonl": '{"text":"ab"}\n{"text":"cd"}\n{"text":"ef"}\n' },
  ],
];

/** Whole and streamed, but for pairs that are read for another task than translation. */
const FORMS = CASES.flatMap(([name, recipe, ...rest]) =>
  [undefined, 2].flatMap((buffer) => {
    if (buffer !== undefined && name.endsWith("masks")) return [];
    const { data } = recipe as { data: object };
    return [[buffer === undefined ? name : `${name}, streamed`, { ...recipe, data: { ...data, buffer } }, ...rest]];
  }),
) as unknown as typeof CASES;

describe("a recipe's bad lines", () => {
  it.each(FORMS)("are named with what leaves them out: %s", async (_, recipe, bad, fault) => {
    const reading = batchesOf(recipe, bad);
    await expect(reading).rejects.toMatchObject({ code: "BAD_FILE", message: expect.stringMatching(fault) });
    await expect(reading).rejects.toThrow(/Mend the line, or leave bad lines out with data\.skipBad\.$/);
  });

  it.each(FORMS)(
    "are left out if asked, each told once, and the rest is as it was: %s",
    async (_, recipe, bad, __, numbers, good) => {
      const { data } = recipe as { data: object };
      const skipping = { ...recipe, data: { ...data, skipBad: true } };
      const { batches, held, notes } = await batchesOf(skipping, bad);
      const name = Object.keys(bad)[0];
      const count = numbers.split(", ").length;
      // The held-out file is the same one, read for itself: whatever is told comes twice.
      expect(notes.filter((note) => note.includes("were left out"))).toEqual([
        expect.stringContaining(`${count} bad lines of ${name} were left out: ${numbers}`),
        expect.stringContaining(`${count} bad lines of ${name} were left out: ${numbers}`),
      ]);
      for (const line of numbers.split(", "))
        expect(notes.filter((note) => note.includes(` line ${line} is left out: `)).length).toBe(2);
      const clean = await batchesOf(recipe, good);
      expect(clean.notes).toEqual([]);
      expect(held).toEqual(clean.held);
      // Streamed, the place of a buffer is a line's number, which its order follows from.
      if (!("buffer" in data) || data.buffer === undefined) expect(batches).toEqual(clean.batches);
    },
  );

  it("are not those of a text that are empty, whose ends are kept, streamed or not", async () => {
    const text = "ab\r\n\r\ncd\n\nef";
    const recipe = { ...BASE, batch: 1, length: 2, tokenizer: { type: "characters", unknown: "" } };
    for (const buffer of [undefined, 100]) {
      const data = { text: "a.txt", validation: "a.txt", buffer };
      const { batches, notes } = await batchesOf({ ...recipe, data }, { "a.txt": text }, 60);
      expect(notes).toEqual([]);
      const rows = batches.flatMap(({ tokens, targets }) => [...(tokens as Uint32Array), ...(targets as Int32Array)]);
      // Padding of the last window does not count.
      expect(new Set(rows.filter((id) => id >= 0)).size).toBe(8);
    }
  });

  it("do not excuse parallel files of other lengths", async () => {
    for (const buffer of [undefined, 2]) {
      const data = { source: "a", target: "b", skipBad: true, buffer };
      const reading = batchesOf({ ...PAIRS, data }, { a: "ab\ncd\nef\n", b: "ba\ndc\n" });
      await expect(reading).rejects.toThrow(/b line 3: must have as many lines as a; got the end\. Mend the files/);
    }
  });
});
