import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import type { Device } from "../../src/gpu/device.ts";
import { trainRecipe } from "../../src/train/run_node.ts";
import { describeOnDevice } from "../support/devices.ts";
import { TINY_RECIPE, TINY_TEXT } from "./tiny.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-resume-"));
afterAll(() => rmSync(folder, { recursive: true }));

const write = (name: string, text: string): void => writeFileSync(join(folder, name), text);
const logged = (output: string): { loss: number }[] =>
  readFileSync(join(folder, output, "log.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

/** Runs a recipe in the folder, from the start or from its newest checkpoint; returns what it noted. */
async function run(device: Device, recipe: object, output: string, resume = false): Promise<string[]> {
  const notes: string[] = [];
  await trainRecipe(device, recipe, { folder, output, resume, onNote: (note) => notes.push(note) });
  return notes;
}

/** Trained on the data: what a piece's number is depends on what is in it. */
const BPE = {
  ...TINY_RECIPE,
  tokenizer: { type: "bpe", size: 280 },
  data: { text: "text.txt", validationShare: 0 },
  schedule: { type: "constant", learningRate: 0.03 },
  steps: 30,
};
const ENCODER = {
  ...{ model_type: "bert", hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2 },
  ...{ max_position_embeddings: 24, type_vocab_size: 2 },
};
const CLASSES = {
  ...{ task: "classification", model: ENCODER, tokenizer: { type: "wordpiece", size: 60 }, seed: 3, output: "out" },
  ...{ data: { examples: "classes.tsv" }, batch: 4, length: 12, steps: 40, optimizer: { type: "adamw" } },
  schedule: { type: "constant", learningRate: 0.01 },
};
const LINES = ["the cat sat\tLABEL_1", "a cat ran\tLABEL_1", "we wrote code\tLABEL_0", "she wrote it\tLABEL_0"];

describeOnDevice("a run that is resumed", (device) => {
  it("keeps the tokenizer of its checkpoint where the data was edited, and says that it was", async () => {
    write("text.txt", TINY_TEXT);
    expect(await run(device(), BPE, "bpe")).toEqual([]);
    const before = readFileSync(join(folder, "bpe", "tokenizer.json"), "utf8");
    const first = logged("bpe").at(-1)?.loss ?? 0;
    expect(first).toBeLessThan(2.5);
    write("text.txt", `${"log mat dog sat log on.\n".repeat(8)}${TINY_TEXT}`);
    await run(device(), { ...BPE, steps: 1 }, "anew");
    expect(readFileSync(join(folder, "anew", "tokenizer.json"), "utf8")).not.toBe(before);
    const notes = await run(device(), { ...BPE, steps: 36 }, "bpe", true);
    expect(readFileSync(join(folder, "bpe", "tokenizer.json"), "utf8")).toBe(before);
    // Trained anew, the pieces would have other numbers: the loss would be that of guessing.
    expect(logged("bpe")[30]?.loss).toBeLessThan(first + 1);
    expect(notes).toEqual([
      expect.stringMatching(/^the run goes on with another steps/),
      expect.stringMatching(
        /^the data has changed since the checkpoint: text\.txt \(text, \d+ bytes instead of 2040\)/,
      ),
    ]);
    // Its newest checkpoint knows the new data.
    expect((await run(device(), { ...BPE, steps: 37 }, "bpe", true)).length).toBe(1);
  });

  it("refuses another model, task and tokenizer, and goes on with other steps and rates", async () => {
    write("text.txt", TINY_TEXT);
    await run(device(), { ...TINY_RECIPE, steps: 2 }, "same");
    const refused = async (more: object, message: RegExp) => {
      const running = run(device(), { ...TINY_RECIPE, ...more, steps: 4 }, "same", true);
      await expect(running).rejects.toMatchObject({ code: "USAGE", message: expect.stringMatching(message) });
    };
    const model = { ...TINY_RECIPE.model, n_head: 4 };
    await refused({ model }, /must keep .*; got model\.n_head 4, where it began with 2\. Put that back/);
    await refused({ model: { ...TINY_RECIPE.model, scale_attn_weights: false } }, /scale_attn_weights false, .* none/);
    await refused({ tokenizer: { type: "bpe" } }, /tokenizer\.type "bpe", where it began with "characters"/);
    await refused(
      { task: "completion", data: { examples: "none.jsonl" } },
      /task "completion", where it began with "lm"/,
    );
    const slower = { type: "constant", learningRate: 0.001 };
    await run(
      device(),
      { ...TINY_RECIPE, task: "lm", steps: 3, schedule: slower, dropout: { hidden: 0.1 } },
      "same",
      true,
    );
    expect(logged("same").length).toBe(3);
  });

  it("keeps a tokenizer that a file gave, and refuses another in its place", async () => {
    write("text.txt", TINY_TEXT);
    await run(device(), { ...TINY_RECIPE, steps: 1 }, "trained");
    const own = readFileSync(join(folder, "trained", "tokenizer.json"), "utf8");
    write("tok.json", own);
    const recipe = { ...TINY_RECIPE, tokenizer: { type: "file", path: "tok.json" } };
    await run(device(), { ...recipe, steps: 1 }, "file");
    const elsewhere = { type: "file", path: "moved.json" };
    await run(device(), { ...recipe, steps: 2, tokenizer: elsewhere }, "file", true);
    write("tok.json", own.replace('"a"', '"ä"'));
    await expect(run(device(), { ...recipe, steps: 3 }, "file", true)).rejects.toMatchObject({
      code: "USAGE",
      message: expect.stringContaining("got another in tok.json than its checkpoint has"),
    });
  });

  it("keeps the numbers of its labels where the lines came into another order, and refuses a new one", async () => {
    write("classes.tsv", `${LINES.join("\n")}\n`);
    await run(device(), CLASSES, "classes");
    const labels = () => JSON.parse(readFileSync(join(folder, "classes", "config.json"), "utf8")).id2label;
    expect(labels()).toEqual({ 0: "LABEL_1", 1: "LABEL_0" });
    const first = logged("classes").at(-1)?.loss ?? 0;
    expect(first).toBeLessThan(0.3);
    write("classes.tsv", `${[...LINES].reverse().join("\n")}\n`);
    await run(device(), { ...CLASSES, steps: 44 }, "classes", true);
    expect(logged("classes")[40]?.loss).toBeLessThan(first + 0.3);
    expect(labels()).toEqual({ 0: "LABEL_1", 1: "LABEL_0" });
    write("classes.tsv", `${LINES.join("\n")}\nthe sea\tLABEL_2\n`);
    await expect(run(device(), { ...CLASSES, steps: 46 }, "classes", true)).rejects.toMatchObject({
      code: "BAD_FILE",
      message: expect.stringMatching(
        /line 5: a run that is resumed has a head for the labels LABEL_1, LABEL_0; got LABEL_2/,
      ),
    });
  });

  it("keeps the numbers of the labels of words", async () => {
    const lines = ["the cat sat", "a cat ran"].map((text) => {
      const words = text.split(" ");
      return { words, labels: words.map((word) => (word === "cat" ? "thing" : "other")) };
    });
    const written = (all: readonly object[]) => write("words.jsonl", all.map((o) => `${JSON.stringify(o)}\n`).join(""));
    written(lines);
    const recipe = { ...CLASSES, task: "labels", data: { examples: "words.jsonl", buffer: 3 } };
    await run(device(), recipe, "words");
    written([{ words: ["cat"], labels: ["thing"] }, ...lines]);
    await run(device(), { ...recipe, steps: 42 }, "words", true);
    expect(logged("words")[40]?.loss).toBeLessThan(0.5);
    expect(JSON.parse(readFileSync(join(folder, "words", "config.json"), "utf8")).id2label).toEqual({
      0: "other",
      1: "thing",
    });
  });
});
