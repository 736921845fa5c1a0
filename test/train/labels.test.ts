import { describe, expect, it } from "vitest";
import { loadTokenizer } from "../../src/text/tokenizer.ts";
import { textFile } from "../../src/train/data/lines.ts";
import { examplesOf, readExamples, readSplitExamples, streamExamples } from "../../src/train/examples.ts";
import { trainTokenizer } from "../../src/train/tokenizer/train_tokenizer.ts";

const letters = await trainTokenizer(["abcdefghijklmnopqrstuvwxyz .\n"], { type: "wordpiece", vocabSize: 80 });
const source = loadTokenizer(letters.tokenizer, letters.config);

/** How training reads a task's examples, with what it notes. */
function reading(task: "classification" | "labels", more: { skipBad?: boolean; names?: Map<string, number> } = {}) {
  const notes: string[] = [];
  const note = (message: string): number => notes.push(message);
  const { names = new Map<string, number>(), skipBad = false } = more;
  return { notes, options: { task, tokenizers: { source }, length: 16, names, skipBad, note, isTraining: true } };
}

describe("labels of examples", () => {
  it.each([
    ["t.tsv", "the cat\tx\na dog\t\nno cat\ty\n"],
    ["t.tsv", "the cat\tx\na dog\t \nno cat\ty\n"],
    ["t.jsonl", '{"text":"the cat","label":"x"}\n{"text":"a dog","label":""}\n{"text":"no cat","label":"y"}\n'],
  ])("of %s that are empty are bad lines, left out if asked", async (name, text) => {
    const { options } = reading("classification");
    await expect(readExamples(textFile(text, name), options)).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringMatching(/line 2: must have a label; got " ?"\. Mend the line/) as string,
    });
    const { options: skipping, notes } = reading("classification", { skipBad: true });
    expect((await readExamples(textFile(text, name), skipping)).classes.map(({ label }) => label)).toEqual(["x", "y"]);
    expect([...skipping.names.keys()]).toEqual(["x", "y"]);
    expect(notes).toEqual([expect.stringContaining("line 2"), expect.stringContaining("1 bad lines")]);
  });

  it("of words may not be empty, and those of a page are told with their number", () => {
    const { options } = reading("labels");
    const all = [{ words: ["a", "cat"], labels: ["O", ""] }];
    expect(() => examplesOf(all, options)).toThrow('example 1 must have a label; got "". Change it, or leave it out.');
  });

  it("that are all the same are refused, however they are read", async () => {
    const file = textFile("the cat\tx\na dog\tx\nno cat\tx\n", "t.tsv");
    const refusal = {
      code: "BAD_FILE",
      message:
        'data: classification needs at least two labels to tell apart; got only "x" in t.tsv. Add examples of another.',
    };
    const options = () => reading("classification").options;
    await expect(readExamples(file, options())).rejects.toMatchObject(refusal);
    await expect(readSplitExamples(file, options(), 0.3)).rejects.toMatchObject(refusal);
    await expect(streamExamples(file, options(), 2)).rejects.toMatchObject(refusal);
    // A head that knows more classes learns no less to say the same of everything.
    const names = new Map(["w", "x"].map((name, i) => [name, i]));
    await expect(readExamples(file, reading("classification", { names }).options)).rejects.toMatchObject(refusal);
    const words = [{ words: ["a", "cat"], labels: ["O", "O"] }];
    expect(() => examplesOf(words, reading("labels").options)).toThrow(/labels needs at least two .* got only "O"\./);
    const held = { ...reading("classification", { names }).options, isTraining: false };
    expect((await readExamples(file, held)).items).toHaveLength(3);
  });

  it("may be named by a header, which is told of; one that lacks a name is no example", async () => {
    const { options, notes } = reading("classification");
    const text = "text\tlabel\nthe cat\tx\na dog\ty\n";
    expect((await readExamples(textFile(text, "t.tsv"), options)).items).toHaveLength(2);
    expect([...options.names.keys()]).toEqual(["x", "y"]);
    expect(notes).toEqual(["data: t.tsv line 1 names the columns and is no example: text, label"]);
    const other = textFile("sentence\tlabel\nthe cat\tx\na dog\ty\n", "t.tsv");
    await expect(readExamples(other, reading("classification").options)).rejects.toThrow(
      /line 1: a header must name text and label; got sentence, label/,
    );
  });

  it("of a stream are read behind its header from every position", async () => {
    const { options, notes } = reading("classification");
    const stream = await streamExamples(textFile("label\ttext\nx\tthe cat\ny\ta dog\n", "t.tsv"), options, 2);
    const read = async (afterLine: number) => {
      const targets: number[] = [];
      for await (const { items } of stream.read(afterLine)) targets.push(...items.flatMap((item) => [...item.targets]));
      return targets;
    };
    expect([await read(0), await read(2)]).toEqual([[0, 1], [1]]);
    expect(notes).toHaveLength(1);
  });
});
