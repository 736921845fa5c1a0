import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt } from "../support/built.ts";
import { runCli, runMain } from "../support/cli.ts";
import { writeSeq2SeqFolder } from "../support/seq2seq_folder.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-translate-"));

beforeAll(async () => {
  await ensureBuilt();
  writeSeq2SeqFolder(folder, "transformer");
});
afterAll(() => rmSync(folder, { recursive: true }));

describe("heed translate", () => {
  it("prints the translation alone, or one object with --json", async () => {
    const args = ["translate", "--model", folder, "--greedy", "hello there."];
    const plain = await runCli(args);
    const json = await runCli([...args, "--json"]);
    expect({ code: plain.code, again: json.code }).toEqual({ code: 0, again: 0 });
    const result = JSON.parse(json.stdout);
    expect(plain.stdout).toBe(`${result.text}\n`);
    expect(result.ids.generated.length).toBeGreaterThan(0);
    expect(result).toMatchObject({ finish: expect.stringMatching(/stop|length/), adapter: expect.anything() });
  });

  it("translates the lines of stdin together, an empty one to an empty one", async () => {
    const options = ["translate", "--model", folder, "--beams", "2"];
    const piped = await runCli([...options, "-"], { stdin: "hello\n\n1+1=2\n" });
    expect(piped.code).toBe(0);
    const lines = piped.stdout.split("\n");
    expect(lines).toHaveLength(4);
    expect(lines[1]).toBe("");
    const json = await runCli([...options, "--json", "hello", "1+1=2"]);
    const { text, results } = JSON.parse(json.stdout);
    expect(results.map((r: { text: string }) => r.text)).toEqual([lines[0], lines[2]]);
    expect(text).toBe(`${lines[0]}\n${lines[2]}`);
  });

  it("honours every option of the search", async () => {
    const generated = async (...args: string[]): Promise<number[]> => {
      const { stdout } = await runMain(["translate", "--model", folder, ...args, "--json", "hello there."]);
      return JSON.parse(stdout).ids.generated;
    };
    const plain = await generated("--beams", "3", "--max-tokens", "12");
    expect(new Set(plain).size).toBeLessThan(plain.length);
    const varied = await generated("--beams", "3", "--max-tokens", "12", "--no-repeat-ngram", "1");
    expect(new Set(varied).size).toBe(varied.length);
    const early = await generated("--beams", "3", "--max-tokens", "12", "--early-stopping", "true");
    expect(early.length).toBeGreaterThan(0);
  });

  it("refuses what means nothing with exit code 2", async () => {
    const wrong = [
      ["translate", "--model", folder, "--beams", "0", "a"],
      ["translate", "--model", folder, "--beams", "2", "--num-return", "3", "a"],
      ["translate", "--model", folder, "--greedy", "--beams", "2", "a"],
      ["translate", "--model", folder, "--greedy", "--length-penalty", "2", "a"],
      ["translate", "--model", folder, "--beams", "1", "--early-stopping", "true", "a"],
      ["translate", "--model", folder, "--early-stopping", "soon", "a"],
      ["summarize", "hello"],
    ];
    for (const args of wrong) expect({ args, code: (await runMain(args)).code }).toEqual({ args, code: 2 });
  });
});
