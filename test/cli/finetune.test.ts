import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { runMain } from "../support/cli.ts";
import { machineTiers } from "../support/devices.ts";
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

  it("learns the next sentence, whose head transformers knows, and scores it", async () => {
    const documents = [
      ["the cat sat", "the dog sat", "the cat sat on the mat"],
      ["ada wrote code", "ada lived in london", "ada wrote the first program"],
    ];
    writeFileSync(at("documents.txt"), `${documents.map((lines) => lines.join("\n")).join("\n\n")}\n`);
    const files = ["--data", at("documents.txt"), "--eval", at("documents.txt"), "--output", at("next")];
    const result = await finetune("--model", encoder.path, "--task", "next-sentence", "--steps", "20", ...files);
    expect(result.scores).toEqual({ accuracy: expect.any(Number) });
    const config = JSON.parse(readFileSync(join(at("next"), "config.json"), "utf8"));
    expect(config.architectures).toEqual(["BertForNextSentencePrediction"]);
    expect(config.id2label).toEqual({ 0: "IsNext", 1: "NotNext" });
    const { tensors } = await openCheckpoint(await folderSource(at("next")));
    expect(tensors.get("cls.seq_relationship.weight")?.shape[0]).toBe(2);
    expect(tensors.has("bert.pooler.dense.weight") || tensors.has("pooler.dense.weight")).toBe(true);
    // The head that was trained is the one that goes on.
    const more = ["--model", at("next"), "--task", "next-sentence", "--train", "head", "--steps", "1"];
    const again = await finetune(...more, ...files.slice(0, 4), "--output", at("next-again"));
    expect(again.loss).toBeLessThan(1);
  });

  it.each(["masked-translation", "span-corruption"])("learns from texts alone: %s", async (task) => {
    writeSeq2SeqFolder(at(`base-${task}`), "transformer");
    const path = join(at(`base-${task}`), "tokenizer.json");
    const tokenizer = JSON.parse(readFileSync(path, "utf8"));
    // Pieces that the text below has not.
    const marks = task === "masked-translation" ? ["<mask>"] : [0, 1, 2, 3, 4].map((i) => `<extra_id_${i}>`);
    for (const [i, content] of marks.entries()) {
      const id = tokenizer.model.vocab.length - 1 - i;
      tokenizer.model.vocab[id][0] = content;
      tokenizer.added_tokens.push({ ...tokenizer.added_tokens[0], id, content });
    }
    writeFileSync(path, JSON.stringify(tokenizer));
    if (task === "masked-translation") {
      const config = join(at(`base-${task}`), "tokenizer_config.json");
      writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, "utf8")), mask_token: "<mask>" }));
    }
    writeFileSync(at("letters.txt"), "abcabcabcabc\nbcabcabcabca\n".repeat(4));
    const files = ["--data", at("letters.txt"), "--eval", at("letters.txt"), "--output", at(task)];
    const result = await finetune("--model", at(`base-${task}`), "--task", task, "--steps", "40", ...files);
    const [first = 0] = losses(at(task));
    expect(result.loss).toBeLessThan(0.7 * first);
    expect(result.scores.perplexity).toBeGreaterThan(1);
  });

  it("streams a file through a buffer, in mixed precision where the adapter has f16, and goes on after a stop as if there had been none", async () => {
    const words = ["cat", "dog", "mat", "book", "code", "line"];
    const lines = words.flatMap((a) => words.map((b) => JSON.stringify({ text: `the ${a} sat on the ${b}` })));
    writeFileSync(at("stream.jsonl"), `${lines.join("\n")}\n`);
    const task = ["--model", encoder.path, "--task", "masked-lm", "--data", at("stream.jsonl"), "--buffer", "10"];
    const hasF16 = (await machineTiers()).includes("f16");
    const places = ["--checkpoint-every", "5", "--steps", "12", "--output", at("streamed")];
    const how = [...task, "--precision", hasF16 ? "mixed" : "f32", ...places];
    const whole = await finetune(...how);
    const expected = losses(at("streamed"));
    rmSync(join(at("streamed"), "checkpoints", "step-00000012"), { recursive: true });
    expect((await finetune(...how, "--resume")).loss).toBe(whole.loss);
    expect(losses(at("streamed"))).toEqual(expected);
    const log = readFileSync(join(at("streamed"), "log.jsonl"), "utf8").split("\n")[0] ?? "";
    if (hasF16) expect(Math.log2(JSON.parse(log).lossScale)).toBeGreaterThan(10);
    else {
      const refused = await runMain(["finetune", ...SIZES, ...task, "--precision", "mixed", "--output", at("refused")]);
      expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/shader-f16.*precision f32/)]);
    }
    // A bad line is met when it is read, and named.
    writeFileSync(at("stream.jsonl"), `${lines.slice(0, 12).join("\n")}\n{"text": 3}\n`);
    const bad = [...task, "--steps", "12", "--output", at("streamed-bad")];
    const { code, stderr } = await runMain(["finetune", ...SIZES, ...bad]);
    expect([code, stderr]).toEqual([1, expect.stringMatching(/stream\.jsonl line 13: .*--skip-bad/)]);
    expect((await finetune(...task, "--steps", "12", "--skip-bad", "--output", at("streamed-skipped"))).steps).toBe(12);
  });

  it("collects the labels of a streamed file first, and trains an adapter on a quantised base", async () => {
    writeFileSync(at("many.tsv"), "the cat sat\tanimal\nada wrote code\tperson\n".repeat(6));
    const task = ["--model", encoder.path, "--task", "classification", "--data", at("many.tsv"), "--buffer", "4"];
    const how = [...task, "--lora", "--dtype", "q8_0", "--steps", "3", "--output", at("quantised")];
    const { code, stderr } = await runMain(["finetune", ...SIZES, ...how]);
    expect([code, stderr]).toEqual([
      0,
      expect.stringContaining(`the adapter is in ${join(at("quantised"), "adapter")}`),
    ]);
    const config = JSON.parse(readFileSync(join(at("quantised"), "config.json"), "utf8"));
    expect(config.id2label).toEqual({ 0: "animal", 1: "person" });
    expect((await runMain(["classify", "--model", at("quantised"), "--json", "the cat sat"])).code).toBe(0);
    const whole = ["--model", encoder.path, "--task", "classification", "--data", at("many.tsv"), "--dtype", "q4_0"];
    const refused = await runMain(["finetune", ...SIZES, ...whole, "--output", at("refused")]);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/--dtype q4_0 needs --lora/)]);
  });

  it("saves the weights of the best evaluation, which the line at the end names, and goes on to the same after a stop", async () => {
    writeFileSync(at("right.tsv"), "the cat sat\tanimal\nada wrote code\tperson\n".repeat(2));
    // What is learnt by heart is wrong here: the loss rises once there is anything to know.
    writeFileSync(at("wrong.tsv"), "the cat sat\tperson\nada wrote code\tanimal\nthe dog sat\tperson\n");
    const task = ["--model", encoder.path, "--task", "classification", "--data", at("right.tsv")];
    const refused = await runMain(["finetune", ...SIZES, ...task, "--keep", "best", "--output", at("kept")]);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringMatching(/--keep best .* needs --eval/)]);
    const held = [...task, "--eval", at("wrong.tsv"), "--lora", "--rank", "2"];
    const patient = await runMain(["finetune", ...SIZES, ...held, "--patience", "2", "--output", at("kept")]);
    expect([patient.code, patient.stderr]).toEqual([2, expect.stringMatching(/--patience .* needs --evaluate-every/)]);
    const places = ["--steps", "20", "--checkpoint-every", "3", "--output", at("kept")];
    const how = ["finetune", ...SIZES, ...held, "--evaluate-every", "2", "--patience", "3", ...places];
    const { code, stdout, stderr } = await runMain(how);
    expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
    const whole = JSON.parse(stdout);
    expect(whole).toMatchObject({
      steps: whole.bestStep + 6,
      keptStep: whole.bestStep,
      validationLoss: whole.bestLoss,
    });
    expect(stderr).toMatch(/best held-out loss \d+\.\d{4} at step \d+, whose weights were saved/);
    const files = () =>
      ["model.safetensors", "adapter/adapter_model.safetensors"].map((name) => readFileSync(join(at("kept"), name)));
    const expected = files();
    const newest =
      readdirSync(join(at("kept"), "checkpoints"))
        .sort()
        .at(-1) ?? "";
    rmSync(join(at("kept"), "checkpoints", newest), { recursive: true });
    const again = await runMain([...how, "--resume"]);
    expect({ ...JSON.parse(again.stdout) }).toEqual(whole);
    expect(files()).toEqual(expected);
    // The folder as it is loaded and used comes to that loss.
    const scored = await runMain([
      "finetune",
      ...SIZES,
      "--model",
      at("kept"),
      ...held.slice(2, 8),
      "--steps",
      "1",
      "--learning-rate",
      "1e-30",
      "--output",
      at("kept-again"),
    ]);
    expect(Math.abs(JSON.parse(scored.stdout).validationLoss - whole.bestLoss)).toBeLessThan(1e-5);
  });

  it("names the line of an example that does not fit", async () => {
    writeFileSync(at("bad.tsv"), "the cat sat\tanimal\nno label\n");
    const task = ["--model", encoder.path, "--task", "classification", "--data", at("bad.tsv"), "--output", at("bad")];
    const { code, stderr } = await runMain(["finetune", ...SIZES, ...task]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/bad\.tsv.*line 2/);
    const prompt = "the cat sat ".repeat(100);
    const lines = [
      { prompt: "the cat", completion: "sat" },
      { prompt, completion: "on the mat" },
    ];
    writeFileSync(at("bad.jsonl"), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
    const completion = [
      "--model",
      encoder.path,
      "--task",
      "completion",
      "--data",
      at("bad.jsonl"),
      "--output",
      at("bad"),
    ];
    const refused = await runMain(["finetune", ...SIZES, ...completion]);
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/bad\.jsonl line 2: a completion must begin within \d+ tokens/),
    ]);
  });
});
