import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT } from "../support/built.ts";
import { runMain } from "../support/cli.ts";
import { assertClose } from "../support/close.ts";
import { goldenPath } from "../support/goldens.ts";
import { writeSeq2SeqFolder } from "../support/seq2seq_folder.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";
import { tolerance } from "../support/tolerances.ts";

const adapter = ["--adapter", join(ROOT, "test/fixtures/lora/gpt2")];
const model = ["--model", goldenPath("gpt2")];
const golden = JSON.parse(readFileSync(join(ROOT, "test/fixtures/lora/gpt2/expected.json"), "utf8"));

describe("--adapter", () => {
  it("gives PEFT's logits, and another text than the model alone", async () => {
    const ids = ["--ids", golden.ids.join(",")];
    const logits = await runMain(["logits", ...model, ...adapter, ...ids, "--json"]);
    const bytes = Buffer.from(golden.logits.data, "base64");
    const expected = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    const got = Float32Array.from(JSON.parse(logits.stdout).logits.flat());
    assertClose(got, Float64Array.from(expected), { ...tolerance("f32", "logits"), label: "logits" });
    const generate = ["generate", ...model, ...ids, "--greedy", "--max-tokens", "6"];
    const alone = await runMain(generate);
    const adapted = await runMain([...generate, ...adapter]);
    expect([alone.code, adapted.code]).toEqual([0, 0]);
    expect(adapted.stdout).not.toBe(alone.stdout);
  });

  it("finds the adapter in the folder of a run", async () => {
    const run = mkdtempSync(join(tmpdir(), "heed-run-"));
    try {
      cpSync(adapter[1] ?? "", join(run, "adapter"), { recursive: true });
      const args = ["generate", ...model, "--ids", golden.ids.join(","), "--greedy", "--max-tokens", "6"];
      const [inRun, itself] = [await runMain([...args, "--adapter", run]), await runMain([...args, ...adapter])];
      expect([inRun.code, inRun.stdout]).toEqual([0, itself.stdout]);
      const none = await runMain([...args, "--adapter", goldenPath("gpt2")]);
      expect([none.code, none.stderr]).toEqual([1, expect.stringMatching(/itself or in adapter\/; got no config/)]);
    } finally {
      rmSync(run, { recursive: true });
    }
  });

  it("goes beside a translator and an encoder as heed finetune left it, in every command that runs them", async () => {
    const run = mkdtempSync(join(tmpdir(), "heed-adapters-"));
    const encoder = tinyEncoder("bert_plain");
    try {
      const at = (name: string): string => join(run, name);
      writeSeq2SeqFolder(at("base"), "transformer");
      writeFileSync(at("pairs.tsv"), "ab\tba\ncd\tdc\n");
      writeFileSync(at("labels.tsv"), "the cat sat\tanimal\nada wrote code\tperson\n");
      const sizes = [
        "--lora",
        "--rank",
        "2",
        "--steps",
        "12",
        "--batch",
        "2",
        "--learning-rate",
        "0.02",
        "--warmup",
        "0",
      ];
      const tune = async (task: string, base: string, data: string, ...output: string[]) => {
        const files = ["--model", base, "--data", at(data), "--output", at(output[0] ?? task)];
        const args = ["finetune", ...sizes, "--task", task, ...files];
        const { code, stderr } = await runMain(args);
        expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
      };
      await tune("translation", at("base"), "pairs.tsv");
      // A model with a head, which the adapter's own then takes the place of.
      await tune("classification", encoder.path, "labels.tsv", "labelled");
      await tune("classification", at("labelled"), "labels.tsv");
      const told = async (command: string, words: string[], ...from: string[]) => {
        const { code, stdout, stderr } = await runMain([command, "--json", ...words, "--model", ...from]);
        expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
        return JSON.parse(stdout);
      };
      const translate = (...from: string[]) => told("translate", ["--max-tokens", "6", "--greedy", "ab"], ...from);
      const beside = await translate(at("base"), "--adapter", at("translation"));
      expect(beside.ids).toEqual((await translate(at("translation"))).ids);
      expect(beside.ids).not.toEqual((await translate(at("base"))).ids);
      const inspect = (...from: string[]) => told("inspect", ["--target", "ba", "--heads", "0", "ab"], ...from);
      const [mapped, merged] = [
        await inspect(at("base"), "--adapter", at("translation")),
        await inspect(at("translation")),
      ];
      expect(mapped.next[0].id).toBe(merged.next[0].id);
      const classify = (...from: string[]) => told("classify", ["the cat sat"], ...from);
      const [labels, expected] = [
        await classify(at("labelled"), "--adapter", at("classification")),
        await classify(at("classification")),
      ];
      expect(labels.score).not.toBe((await classify(at("labelled"))).score);
      expect(labels.label).toBe(expected.label);
      expect(labels.score).toBeCloseTo(expected.score, 4);
    } finally {
      encoder.remove();
      rmSync(run, { recursive: true });
    }
  });

  it("says what is wrong with an adapter, and where an adapter was named as the model", async () => {
    const other = await runMain([...["generate", "--model", goldenPath("llama_gqa"), ...adapter, "--ids", "5"]]);
    expect([other.code, other.stderr]).toEqual([1, expect.stringContaining("adapter and model belong together")]);
    const swapped = await runMain(["generate", "--model", adapter[1] ?? "", "--ids", "5"]);
    expect([swapped.code, swapped.stderr]).toEqual([1, expect.stringContaining("--adapter")]);
  });
});
