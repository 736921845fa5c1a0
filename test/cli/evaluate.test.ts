import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { ROOT } from "../support/built.ts";
import { runMain } from "../support/cli.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-evaluate-"));
const encoders = [tinyEncoder("bert_classes"), tinyEncoder("bert_span")] as const;
afterAll(() => {
  rmSync(folder, { recursive: true });
  for (const { remove } of encoders) remove();
});

function write(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

async function evaluate(...args: string[]) {
  const { code, stdout, stderr } = await runMain(["evaluate", "--json", ...args]);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout);
}

describe("heed evaluate", () => {
  it("scores lines against lines", async () => {
    const predictions = write("own.txt", "the cat sat on the mat\n");
    const references = write("right.txt", "the cat sat on a mat\n");
    const files = ["--predictions", predictions, "--references", references];
    expect((await evaluate("--metric", "bleu", ...files)).bleu).toBeCloseTo(53.7285, 3);
    expect((await evaluate("--metric", "chrf", ...files)).chrf).toBeGreaterThan(60);
  });

  it("translates a file of pairs, and scores and keeps what came of it", async () => {
    const data = write("pairs.tsv", "我是一名工程师\tI am an engineer.\n我是一名老师\tI am a teacher.\n");
    const output = join(folder, "translations.txt");
    const model = ["--model", `${ROOT}/models/zh_en`, "--data", data, "--output", output];
    expect((await evaluate("--metric", "bleu", ...model)).bleu).toBeCloseTo(100, 9);
    expect(readFileSync(output, "utf8")).toBe("I am an engineer.\nI am a teacher.\n");
    const sources = write("sources.txt", "我是一名工程师\n我是一名老师\n");
    const parts = ["--model", `${ROOT}/models/zh_en`, "--data", sources, "--references", output];
    expect((await evaluate("--metric", "chrf", ...parts)).chrf).toBeCloseTo(100, 9);
  });

  it("classifies a file of texts, and reports each class", async () => {
    const [{ path }] = encoders;
    const texts = ["the cat sat", "ada wrote code", "who lived in london ?"];
    const told = await runMain(["classify", "--model", path, "--json", texts[0] ?? ""]);
    const { label } = JSON.parse(told.stdout);
    const data = write("classes.jsonl", texts.map((text) => `${JSON.stringify({ text, label })}\n`).join(""));
    const report = await evaluate("--metric", "classification", "--model", path, "--data", data);
    expect(report.classes[label].support).toBe(3);
    expect(report.classes[label].recall).toBeGreaterThanOrEqual(1 / 3);
    expect(report.accuracy).toBeCloseTo(report.classes[label].recall, 9);
    const table = ["id\ttext\tlabel", ...texts.map((text, i) => `${i}\t${text}\t${label}`)];
    const headed = write("classes.tsv", table.join("\n"));
    expect(await evaluate("--metric", "classification", "--model", path, "--data", headed)).toEqual(report);
    const strange = write("strange.tsv", "the cat sat\tnobody\n");
    const adapter = ["--adapter", join(ROOT, "test/fixtures/lora/gpt2")];
    const foreign = await runMain(["evaluate", "--metric", "accuracy", "--model", path, "--data", data, ...adapter]);
    expect([foreign.code, foreign.stderr]).toEqual([1, expect.stringContaining("adapter and model belong together")]);
    const refused = await runMain(["evaluate", "--metric", "accuracy", "--model", path, "--data", strange]);
    expect([refused.code, refused.stderr]).toEqual([
      2,
      expect.stringMatching(/labels must be those of the model.*nobody/),
    ]);
  });

  it("answers the questions of a file in SQuAD's format", async () => {
    const context = "ada lived in london and wrote the first program";
    const qas = [{ id: "1", question: "where did ada live", answers: [{ text: "london", answer_start: 13 }] }];
    const data = write("squad.json", JSON.stringify({ data: [{ title: "ada", paragraphs: [{ context, qas }] }] }));
    const scores = await evaluate("--metric", "squad", "--model", encoders[1].path, "--data", data);
    expect(scores).toMatchObject({ questions: 1, exactMatch: expect.any(Number), f1: expect.any(Number) });
  });

  const SQUAD = {
    data: [
      {
        title: "ada",
        paragraphs: [
          {
            context: "Ada lived in London.",
            qas: [
              { id: "q1", question: "where?", answers: [{ text: "London", answer_start: 13 }] },
              { id: "q2", question: "with whom?", answers: [], is_impossible: true },
            ],
          },
        ],
      },
    ],
  };

  it("takes answers by id with a byte order mark or packed, and notes and counts those that are missing", async () => {
    const references = write("questions.json", JSON.stringify(SQUAD));
    const squad = ["--metric", "squad", "--references", references, "--predictions"];
    const marked = write("marked.json", `\ufeff${JSON.stringify({ q1: "the London", q2: "", other: "x" })}`);
    expect(await evaluate(...squad, marked)).toEqual({ exactMatch: 100, f1: 100, questions: 2 });
    const packed = join(folder, "packed.json.gz");
    writeFileSync(packed, gzipSync(JSON.stringify({ q1: "London" })));
    const some = await runMain(["evaluate", ...squad, packed]);
    expect(some.stdout).toBe("exact match 50.00, F1 50.00 (2 questions)\n");
    expect(some.stderr).toContain("1 of 2 questions have no answer in");
    const other = await runMain(["evaluate", ...squad, write("other.json", '{"x":"London"}')]);
    expect([other.code, other.stderr]).toEqual([2, expect.stringMatching(/such as q1; got x\. Name/)]);
  });

  it("reads lines with CR LF and a byte order mark, and labels with spaces within", async () => {
    const right = write("labels.txt", "not a dog\ncat\ncat\n");
    const own = write("own_labels.txt", "\ufeffnot a dog\r\ncat \r\n dog\r\n");
    const files = ["--predictions", own, "--references", right];
    const report = await evaluate("--metric", "classification", ...files);
    expect(Object.keys(report.classes)).toEqual(["cat", "dog", "not a dog"]);
    expect(report.accuracy).toBeCloseTo(2 / 3, 12);
    const twice = await runMain(["evaluate", "--metric", "accuracy", ...files, "--references", right]);
    expect([twice.code, twice.stderr]).toEqual([2, expect.stringMatching(/takes one --references FILE; got 2/)]);
  });

  it("names counts of lines that differ, and says nothing of NaN where nothing is", async () => {
    const empty = write("empty_line.txt", "\n");
    const two = write("two.txt", "a\nb\n");
    const { code, stderr } = await runMain([
      ...["evaluate", "--metric", "bleu", "--predictions", two, "--references", empty],
    ]);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/got 2 predictions and 1 references/)]);
    const none = await runMain(["evaluate", "--metric", "bleu", "--predictions", empty, "--references", empty]);
    expect(none.stdout).toMatch(/^BLEU 0\.00 .*ratio 0\.000, 0 words for 0/);
  });

  it("gives the perplexity that transformers gives of the same text in the same windows", async () => {
    const data = write("text.txt", "To be, or not to be,\n\n  that is the question:\nWhether tis nobler\n");
    const model = ["--model", `${ROOT}/models/shakespeare`, "--data", data];
    const told = await evaluate("--metric", "perplexity", ...model, "--length", "64");
    expect(told.tokens).toBe(64);
    // The weights are f16, and so are products on some tiers.
    expect(Math.abs(told.nats - 2.048096)).toBeLessThan(2e-3);
    const bytes = join(folder, "bytes.txt");
    writeFileSync(bytes, Uint8Array.of(0x61, 0xff));
    const bad = await runMain([
      "evaluate",
      "--metric",
      "perplexity",
      "--model",
      `${ROOT}/models/shakespeare`,
      "--data",
      bytes,
    ]);
    expect([bad.code, bad.stderr]).toEqual([1, expect.stringMatching(/bytes\.txt must be UTF-8; got other bytes/)]);
  });

  it("says which files are missing", async () => {
    const none = await runMain(["evaluate", "--metric", "bleu", "--predictions", "a.txt"]);
    expect([none.code, none.stderr]).toEqual([
      2,
      expect.stringMatching(/--predictions FILE and --references FILE, or --model/),
    ]);
    const absent = ["--predictions", join(folder, "absent"), "--references", join(folder, "absent")];
    const { code, stderr } = await runMain(["evaluate", "--metric", "bleu", ...absent]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/must be a file that can be read.*Check the path/)]);
    const both = await runMain(["evaluate", "--metric", "bleu", "--model", "m", "--data", "d", "--predictions", "p"]);
    expect([both.code, both.stderr]).toEqual([2, expect.stringMatching(/Leave one out/)]);
  });
});
