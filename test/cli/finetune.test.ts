import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { runMain } from "../support/cli.ts";
import { writeSeq2SeqFolder } from "../support/seq2seq_folder.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-finetune-cli-"));
const encoder = tinyEncoder("bert_plain");
afterAll(() => {
  rmSync(folder, { recursive: true });
  encoder.remove();
});

const at = (name: string): string => join(folder, name);
const SIZES = ["--batch", "4", "--length", "24", "--learning-rate", "0.01", "--warmup", "0", "--json"];

async function finetune(...args: string[]) {
  const { code, stdout, stderr } = await runMain(["finetune", ...SIZES, ...args]);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout);
}

/** The losses of log.jsonl. */
function losses(output: string): number[] {
  const lines = readFileSync(join(output, "log.jsonl"), "utf8").trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line).loss);
}

describe("heed finetune", () => {
  it("leaves a classifier that loads, a log, curves and scores, and goes on after a stop as if there had been none", async () => {
    const lines = [
      "the cat sat\tanimal",
      "the dog sat\tanimal",
      "ada wrote code\tperson",
      "ada lived in london\tperson",
    ];
    writeFileSync(at("data.tsv"), `${lines.join("\n")}\n`);
    const task = [
      "--model",
      encoder.path,
      "--task",
      "classification",
      "--data",
      at("data.tsv"),
      "--eval",
      at("data.tsv"),
    ];
    const how = [...task, "--lora", "--rank", "2", "--evaluate-every", "4", "--checkpoint-every", "3"];
    const whole = await finetune(...how, "--steps", "12", "--output", at("whole"));
    expect(whole).toMatchObject({ steps: 12, validationLoss: expect.any(Number) });
    expect(whole.scores.accuracy).toBeGreaterThanOrEqual(0.5);
    expect(whole.scores.classes.animal.support).toBe(2);
    expect(readdirSync(at("whole"))).toEqual(
      expect.arrayContaining([
        "adapter",
        "config.json",
        "curves.svg",
        "log.jsonl",
        "model.safetensors",
        "tokenizer.json",
      ]),
    );
    expect(readFileSync(join(at("whole"), "curves.svg"), "utf8")).toMatch(/^<svg/);
    // A kill after the checkpoint of step 9 leaves this.
    rmSync(join(at("whole"), "checkpoints", "step-00000012"), { recursive: true });
    const expected = losses(at("whole"));
    const again = await finetune(...how, "--steps", "12", "--output", at("whole"), "--resume");
    expect(again.loss).toBe(whole.loss);
    expect(losses(at("whole"))).toEqual(expected);
    const told = await runMain(["classify", "--model", at("whole"), "--json", "the cat sat"]);
    expect(told.code).toBe(0);
    const refused = await runMain(["finetune", ...SIZES, ...how, "--output", at("whole")]);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/--resume/)]);
  });

  it("trains a span head on a file in SQuAD's format, and scores its answers", async () => {
    const context = "ada lived in london and wrote the first program";
    const qa = (question: string, text: string) => ({
      ...{ id: question, question, answers: [{ text, answer_start: context.indexOf(text) }] },
    });
    const qas = [qa("where did ada live", "london"), qa("what did ada write", "the first program")];
    writeFileSync(at("squad.json"), JSON.stringify({ data: [{ title: "ada", paragraphs: [{ context, qas }] }] }));
    const files = ["--data", at("squad.json"), "--eval", at("squad.json"), "--output", at("span")];
    const result = await finetune("--model", encoder.path, "--task", "answer", "--steps", "60", ...files);
    expect(result.scores).toMatchObject({ exactMatch: 100, f1: 100 });
  });

  it("tunes a translator on pairs, and scores its translations", async () => {
    writeSeq2SeqFolder(at("base"), "transformer");
    writeFileSync(at("pairs.tsv"), "ab\tba\ncd\tdc\n");
    const files = ["--data", at("pairs.tsv"), "--eval", at("pairs.tsv"), "--output", at("translator")];
    const result = await finetune("--model", at("base"), "--task", "translation", "--steps", "60", ...files);
    const [first = 0] = losses(at("translator"));
    expect(result.loss).toBeLessThan(0.5 * first);
    expect(result.scores).toMatchObject({ bleu: expect.any(Number), perplexity: expect.any(Number) });
    expect(existsSync(join(at("translator"), "tokenizer.json"))).toBe(true);
  });

  it("names the line of an example that does not fit", async () => {
    writeFileSync(at("bad.tsv"), "the cat sat\tanimal\nno label\n");
    const task = ["--model", encoder.path, "--task", "classification", "--data", at("bad.tsv"), "--output", at("bad")];
    const { code, stderr } = await runMain(["finetune", ...SIZES, ...task]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/bad\.tsv.*line 2/);
  });
});
