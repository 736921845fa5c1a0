import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { blobFile, Misfit, readLines, textFile } from "../../../src/train/data/lines.ts";
import { readJsonl, readPairs, readParallel, readSquad, readText, readTsv } from "../../../src/train/data/readers.ts";

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

const textOf = (object: Record<string, unknown>): string => {
  if (typeof object["text"] !== "string") throw new Misfit("must have a text", JSON.stringify(object));
  return object["text"];
};

describe("readLines", () => {
  it("takes LF and CR LF, a mark at the beginning, a last line without an end, and gzip", async () => {
    const text = "\ufeffone\r\ntwo\n\nthree 三";
    const ends = ["\r\n", "\n", "\n", ""];
    const lines = ["one", "two", "", "three 三"].map((text, i) => ({ number: i + 1, text, end: ends[i] }));
    expect(await all(readLines(textFile(text, "a.txt")))).toEqual(lines);
    expect(await all(readLines(blobFile(new Blob([gzipSync(text)]), "a.txt.gz")))).toEqual(lines);
  });

  it("joins lines that arrive in pieces, characters cut in half", async () => {
    const bytes = new TextEncoder().encode("ab三\n四cd\n");
    const file = {
      name: "pieces",
      async *open() {
        for (const byte of bytes) yield Uint8Array.of(byte);
      },
    };
    expect((await all(readLines(file))).map(({ text }) => text)).toEqual(["ab三", "四cd"]);
  });
});

describe("readers", () => {
  it("report a bad line with its file and number, and leave it out only if asked", async () => {
    const file = textFile('{"text":"a"}\n{"text":\n[1]\n{"other":2}\n{"text":"b"}\n', "x.jsonl");
    await expect(all(readJsonl(file, textOf))).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringContaining('data: x.jsonl line 2: must be JSON; got {"text":') as string,
    });
    const bad: string[] = [];
    expect(await all(readJsonl(file, textOf, { skipBad: true, onBad: (m) => bad.push(m) }))).toEqual(["a", "b"]);
    expect(bad.map((message) => /line (\d)/.exec(message)?.[1])).toEqual(["2", "3", "4"]);
  });

  it("report bytes that are not UTF-8", async () => {
    const file = blobFile(new Blob([Uint8Array.of(0x61, 10, 0xff, 10, 0x62)]), "x.txt");
    await expect(all(readText(file))).rejects.toThrow("x.txt line 2: must be UTF-8");
    expect(await all(readText(file, { skipBad: true }))).toEqual(["a", "b"]);
  });

  it("name a table's columns by its first line or as given", async () => {
    const rows = (columns: Readonly<Record<string, string>>) => ({ ...columns });
    const want = [
      { a: "1", b: "x" },
      { a: "2", b: "" },
    ];
    expect(await all(readTsv(textFile("a\tb\n1\tx\n2\t\n", "t.tsv"), rows))).toEqual(want);
    expect(await all(readTsv(textFile("1\tx\n2\t\n", "t.tsv"), rows, { columns: ["a", "b"] }))).toEqual(want);
    await expect(all(readTsv(textFile("a\tb\n1\n", "t.tsv"), rows))).rejects.toThrow(
      "t.tsv line 2: must have 2 columns (a, b); got 1",
    );
  });

  it("take a first line that names the wanted columns for a header, from any position on", async () => {
    const read = async (text: string, options: { afterLine?: number; skipBad?: boolean } = {}) => {
      const notes: string[] = [];
      const parse = ({ text: words, label }: Readonly<Record<string, string>>, line: number) => [line, words, label];
      const onHeader = (message: string) => notes.push(message);
      const reading = { ...options, columns: ["text", "label"], onHeader };
      return { rows: await all(readTsv(textFile(text, "t.tsv"), parse, reading)), notes };
    };
    const note = expect.stringContaining("t.tsv line 1 names the columns") as string;
    expect(await read("\ufefftext\tlabel\r\none\tx\n")).toEqual({ rows: [[2, "one", "x"]], notes: [note] });
    const others = "id\tlabel\ttext\n7\tx\tone\n8\ty\ttwo\n";
    const rows = [2, 3].map((line, i) => [line, ["one", "two"][i], ["x", "y"][i]]);
    expect(await read(others)).toEqual({ rows, notes: [note] });
    expect((await read(others, { afterLine: 2 })).rows).toEqual(rows.slice(1));
    await expect(read("id\ttext\tlabel\none\tx\n")).rejects.toThrow(/line 2: must have 3 columns \(id, text, label\)/);
    expect(await read("label\tx\n")).toEqual({ rows: [[1, "label", "x"]], notes: [] });
    expect((await read("one\tx\ntext\tlabel\n")).rows).toHaveLength(2);
  });

  it("read parallel text from one file or two of one length", async () => {
    const pairs = [
      { source: "你好", target: "Hello" },
      { source: "再见", target: "Goodbye" },
    ];
    expect(await all(readPairs(textFile("你好\tHello\n再见\tGoodbye\n", "p.tsv")))).toEqual(pairs);
    await expect(all(readPairs(textFile("你好\n", "p.tsv")))).rejects.toThrow(
      "p.tsv line 1: must be a source and a target",
    );
    const zh = textFile("你好\n再见\n", "p.zh");
    expect(await all(readParallel(zh, textFile("Hello\nGoodbye\n", "p.en")))).toEqual(pairs);
    await expect(all(readParallel(zh, textFile("Hello\n", "p.en")))).rejects.toThrow(
      "p.en line 2: must have as many lines as p.zh",
    );
    await expect(all(readParallel(textFile("a\n", "s"), textFile("b\nc\n", "t")))).rejects.toThrow("s line 2");
  });

  it("read SQuAD's format, whose places count characters, with and without answers", async () => {
    const qas = [
      { id: "1", question: "Who?", answers: [{ text: "Ann", answer_start: 3 }] },
      { id: "2", question: "None?", answers: [], is_impossible: true },
      { id: "3", question: "Wrong?", answers: [{ text: "Ann", answer_start: 0 }] },
    ];
    const json = { data: [{ title: "T", paragraphs: [{ context: "😀a Ann", qas }] }] };
    const file = textFile(JSON.stringify(json), "dev.json");
    await expect(all(readSquad(file))).rejects.toThrow(
      'dev.json, article 1, paragraph 1, question 3: the answer "Ann" must stand at 0',
    );
    const questions = await all(readSquad(file, { skipBad: true }));
    expect(questions.map(({ id, answers }) => [id, answers])).toEqual([
      ["1", [{ text: "Ann", start: 4 }]],
      ["2", []],
    ]);
    const holes = {
      data: [{ title: "T", paragraphs: [{ context: "a" }] }, { title: "U", paragraphs: "none" }, ...json.data],
    };
    const holed = textFile(JSON.stringify(holes), "holes.json");
    await expect(all(readSquad(holed))).rejects.toThrow(
      "holes.json, article 1, paragraph 1: must have a list of questions (qas); got none. Mend it",
    );
    const told: string[] = [];
    const rest = await all(readSquad(holed, { skipBad: true, onBad: (message) => told.push(message) }));
    expect(rest.map(({ id }) => id)).toEqual(["1", "2"]);
    expect(told).toEqual([
      expect.stringContaining("article 1, paragraph 1: "),
      expect.stringContaining('article 2: must have a list of paragraphs; got "none"'),
      expect.stringContaining("article 3, paragraph 1, question 3"),
    ]);
  });
});
