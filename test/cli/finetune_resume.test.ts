import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { runMain } from "../support/cli.ts";
import { tinyEncoder } from "../support/tiny_encoder.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-finetune-resume-"));
const encoder = tinyEncoder("bert_plain");
afterAll(() => {
  rmSync(folder, { recursive: true });
  encoder.remove();
});

const at = (name: string): string => join(folder, name);
const LINES = ["the cat sat\tanimal", "the dog sat\tanimal", "ada wrote code\tperson", "ada lived in london\tperson"];
const TASK = ["finetune", "--model", encoder.path, "--task", "classification", "--data", at("data.tsv")];
const SIZES = ["--batch", "4", "--length", "24", "--learning-rate", "0.01", "--warmup", "0"];

const write = (lines: readonly string[]): void => writeFileSync(at("data.tsv"), `${lines.join("\n")}\n`);
const tune = (output: string, steps: number, ...more: string[]) =>
  runMain([...TASK, ...SIZES, "--output", at(output), "--steps", String(steps), ...more]);
const losses = (output: string): number[] =>
  readFileSync(join(at(output), "log.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line).loss);

describe("heed finetune --resume", () => {
  it("keeps the labels' numbers where the lines came into another order, and refuses a label that the head lacks", async () => {
    write(LINES);
    expect((await tune("labels", 20)).code).toBe(0);
    const before = losses("labels").at(-1) ?? 0;
    expect(before).toBeLessThan(0.3);
    write([...LINES].reverse());
    const again = await tune("labels", 22, "--resume");
    expect([again.code, again.stderr]).toEqual([
      0,
      expect.stringMatching(
        /the data has changed since the checkpoint: data\.tsv \(data\); the position in it is kept/,
      ),
    ]);
    expect(losses("labels")[20]).toBeLessThan(before + 0.3);
    const { id2label } = JSON.parse(readFileSync(join(at("labels"), "config.json"), "utf8"));
    expect(id2label).toEqual({ 0: "animal", 1: "person" });
    write([...LINES, "the sea\tplace"]);
    const { code, stderr } = await tune("labels", 24, "--resume");
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(
        /data\.tsv line 5: a run that is resumed has a head for the labels animal, person; got place/,
      ),
    ]);
  });

  it("refuses another adapter, another base and another task, and goes on with another rate", async () => {
    write(LINES);
    const lora = ["--lora", "--rank", "2", "--targets", "query,value"];
    expect((await tune("adapter", 2, ...lora)).code).toBe(0);
    const refused = async (message: RegExp, ...flags: string[]) => {
      const { code, stderr } = await tune("adapter", 4, "--resume", ...flags);
      expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
    };
    await refused(/trained without 4 \(such as .*value.*\) that it began with/, ...lora.slice(0, 4), "query");
    await refused(/trained with \d+ \(such as .*key.*\) that it began without/, ...lora.slice(0, 4), "query,key,value");
    await refused(/adapter\.rank 4, where it began with 2/, "--lora", "--rank", "4", "--targets", "query,value");
    await refused(/adapter\.alpha 32, where it began with 16/, ...lora, "--alpha", "32");
    await refused(/adapter "none", where it began with/);
    const other = tinyEncoder("bert_plain");
    const path = join(other.path, "model.safetensors");
    const bytes = readFileSync(path);
    bytes.fill(0, bytes.length - 200_000 > 8000 ? bytes.length - 200_000 : bytes.length >> 1);
    writeFileSync(path, bytes);
    await refused(
      /must keep .*; got another base model than it began with\. Put that back/,
      ...lora,
      "--model",
      other.path,
    );
    other.remove();
    const renamed = tinyEncoder("bert_plain");
    const json = join(renamed.path, "tokenizer.json");
    writeFileSync(json, readFileSync(json, "utf8").replace('"text"', '"texts"'));
    await refused(/got another tokenizer than it began with/, ...lora, "--model", renamed.path);
    renamed.remove();
    expect(
      (await tune("adapter", 4, "--resume", ...lora, "--lora-dropout", "0.1", "--learning-rate", "0.001")).code,
    ).toBe(0);
    expect(losses("adapter").length).toBe(4);
  });
});
