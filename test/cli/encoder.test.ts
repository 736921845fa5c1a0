import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { runMain } from "../support/cli.ts";
import type { EncoderGoldenName } from "../support/encoder_goldens.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";
import { goldenPath } from "../support/goldens.ts";

const folders = new Map<string, ReturnType<typeof tinyEncoder>>();
afterAll(() => {
  for (const folder of folders.values()) folder.remove();
});

function folderOf(name: EncoderGoldenName): string {
  const folder = folders.get(name) ?? tinyEncoder(name);
  folders.set(name, folder);
  return folder.path;
}

/** Runs a command with `--json` and reads the one object that it prints. */
async function json(verb: string, model: EncoderGoldenName, ...args: string[]) {
  const { code, stdout, stderr } = await runMain([verb, "--model", folderOf(model), "--json", ...args]);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout.trim().split("\n")).toHaveLength(1);
  const result = JSON.parse(stdout);
  expect(result).toMatchObject({ model: expect.any(String), adapter: expect.any(Object) });
  return result;
}

describe("the commands of encoders", () => {
  it("answer prints the text alone, and with --json its place and score", async () => {
    const context = "Ada lived in London.";
    const args = ["--context", context, "--no-no-answer", "Where did Ada live?"];
    const result = await json("answer", "bert_span", "--top", "2", ...args);
    expect(result.text).toBe(context.slice(result.start, result.end));
    expect(result).toMatchObject({ hasAnswer: true, score: expect.any(Number), noAnswerScore: expect.any(Number) });
    expect(result.answers).toHaveLength(2);
    const plain = await runMain(["answer", "--model", folderOf("bert_span"), ...args]);
    expect([plain.code, plain.stdout]).toEqual([0, `${result.text}\n`]);
  });

  it("classify, label, fill, embed and similarity print their results alone", async () => {
    const one = await json("classify", "bert_classes", "the cat");
    expect(one).toMatchObject({ label: expect.any(String), scores: expect.any(Array) });
    expect((await json("classify", "bert_classes", "the cat", "a dog")).results).toHaveLength(2);
    const plain = await runMain(["classify", "--model", folderOf("bert_classes"), "the cat"]);
    expect(plain.stdout).toBe(`${one.label}\t${one.score.toFixed(4)}\n`);
    const { entities } = await json(
      "label",
      "bert_labels",
      "--aggregation",
      "none",
      "--ignore",
      "none",
      "ada in london",
    );
    expect(entities).toHaveLength(3);
    const filled = await json("fill", "bert_words", "--top", "2", "the [MASK] sat");
    expect(filled.text).toBe(`the ${filled.masks[0][0].text} sat`);
    expect(filled.masks[0]).toHaveLength(2);
    const { embedding, embeddings } = await json("embed", "bert_plain", "the cat");
    expect([embedding.length, embeddings.length]).toEqual([32, 1]);
    const { similarities } = await json("similarity", "bert_plain", "the cat", "the cat", "a dog");
    expect(similarities[0].score).toBeCloseTo(1, 5);
  });

  it("say what a checkpoint can do where it lacks the head, and what is missing", async () => {
    const wrong = await runMain(["classify", "--model", folderOf("bert_words"), "the cat"]);
    expect([wrong.code, wrong.stdout]).toEqual([1, ""]);
    // What a model can't do is no wrong use: another kind of model, or another head, end alike.
    const decoder = await runMain(["classify", "--model", goldenPath("llama_gqa"), "a"]);
    expect([decoder.code, decoder.stderr]).toEqual([1, expect.stringContaining("llama is a decoder")]);
    expect(wrong.stderr).toContain("has one for masked words, so fill and embed work");
    expect((await runMain(["fill", "--model", folderOf("bert_words")])).stderr).toContain("at least one text");
    expect((await runMain(["embed", "the cat"])).stderr).toContain("--model is needed");
    expect((await runMain(["answer", "--model", "x", "why?"])).stderr).toContain("--context or --context-file");
  });
});

describe("heed transcribe", () => {
  it("prints ids of a small model without a tokenizer, and refuses what is no WAV file", async () => {
    const model = fileURLToPath(new URL("../fixtures/goldens/whisper", import.meta.url));
    const folder = folderOf("bert_plain");
    const [sound, text] = [join(folder, "sound.wav"), join(folder, "sound.txt")];
    const samples = Int16Array.from({ length: 800 }, (_, i) => 8000 * Math.sin(i / 5));
    const header = Buffer.alloc(44);
    header.write("RIFF", 0);
    header.write("WAVEfmt ", 8);
    header.writeUInt32LE(16, 16);
    header.writeUInt16LE(1, 20);
    header.writeUInt16LE(1, 22);
    header.writeUInt32LE(8000, 24);
    header.writeUInt16LE(2, 32);
    header.writeUInt16LE(16, 34);
    header.write("data", 36);
    header.writeUInt32LE(samples.byteLength, 40);
    writeFileSync(sound, Buffer.concat([header, Buffer.from(samples.buffer)]));
    writeFileSync(text, "not a sound");
    const run = await runMain(["transcribe", "--model", model, "--max-tokens", "3", "--json", sound]);
    expect(run.code).toBe(0);
    const result = JSON.parse(run.stdout);
    expect(result.ids[0].slice(0, 1)).toEqual([50]);
    expect(result).toMatchObject({ text: "", seconds: 0.1, segments: [{ start: 0, end: 0.1 }] });
    expect((await runMain(["transcribe", "--model", model, text])).stderr).toContain("begin with RIFF and WAVE");
    expect((await runMain(["transcribe", "--model", model, "nowhere.wav"])).code).toBe(2);
  });
});
