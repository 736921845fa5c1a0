import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt, ROOT } from "../support/built.ts";
import { runCli, runMain } from "../support/cli.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-generate-"));
const model = join(folder, "tiny_llama");

beforeAll(async () => {
  await ensureBuilt();
  execFileSync(process.execPath, [`${ROOT}/test/fixtures/write_tiny_llama.mjs`, model]);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs `heed generate --json` on the tiny model and reads what it printed. */
async function generateJson(...args: string[]) {
  const { code, stdout, stderr } = await runCli(["generate", "--model", model, "--json", ...args]);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout);
}

describe("heed generate", () => {
  it("prints one JSON object: what was generated without the prompt, and what it took", async () => {
    const result = await generateJson("--greedy", "--max-tokens", "12", "Once upon a time");
    expect(Object.keys(result)).toEqual(["text", "ids", "finish", "seed", "stats", "model", "adapter"]);
    // Bytes, after the <s> that the tokenizer adds.
    expect(result.ids.prompt).toEqual([256, ...Buffer.from("Once upon a time")]);
    expect(result.finish).toMatch(/^(stop|length)$/);
    expect(result.ids.generated).toHaveLength(result.finish === "length" ? 12 : result.stats.generatedTokens);
    expect(result.text).not.toContain("Once upon a time");
    expect(result.stats.promptTokens).toBe(17);
    expect(result.stats.peakGpuBytes).toBeGreaterThan(100_000);
    expect(result.adapter.vendor).toBeTypeOf("string");
  });

  it("streams the same text to stdout, and nothing else", async () => {
    const args = ["--greedy", "--max-tokens", "12", "Once upon a time"];
    const { text } = await generateJson(...args);
    const { code, stdout, stderr } = await runCli(["generate", "--model", model, ...args]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${text}\n` });
    expect(stderr).toMatch(/heed: 17 \+ \d+ tokens/);
  });

  it("takes the prompt from stdin or as ids", async () => {
    const options = ["--greedy", "--max-tokens", "4"];
    const { ids } = await generateJson(...options, "hello");
    expect((await generateJson(...options, "--ids", ids.prompt.join(","))).ids).toEqual(ids);
    const piped = await runCli(["generate", "--model", model, "--json", ...options, "-"], { stdin: "hello\n" });
    expect(JSON.parse(piped.stdout).ids).toEqual(ids);
  });

  it("draws the same tokens from the same seed, and others from another", async () => {
    const draw = async (seed: string) =>
      (await generateJson("--temperature", "1.5", "--seed", seed, "--max-tokens", "24", "a")).ids.generated;
    const [first, again, other] = [await draw("7"), await draw("7"), await draw("8")];
    expect(first).toEqual(again);
    expect(first).not.toEqual(other);
  });

  it("ends before a stop string", async () => {
    const options = ["--greedy", "--max-tokens", "12"];
    const { text } = await generateJson(...options, "hello");
    const stop = text.slice(4, 6);
    const stopped = await generateJson(...options, "--stop", stop, "hello");
    expect(stopped.finish).toBe("stop");
    expect(stopped.text).toBe(text.slice(0, text.indexOf(stop)));
  });

  it("prints the time per kernel under --profile, on stderr, and says how it was taken", async () => {
    const { code, stdout, stderr } = await runCli([
      "generate",
      "--model",
      model,
      "--json",
      "--profile",
      "--max-tokens",
      "4",
      "a",
    ]);
    expect(code).toBe(0);
    expect(JSON.parse(stdout).finish).toBe("length");
    expect(stderr).toMatch(/each dispatch in a pass of its own/);
    expect(stderr).toMatch(/^kernel +dispatches +ms +share +variant$/m);
  });

  it("stops at Ctrl-C with what it has and exit code 130", async () => {
    const args = ["generate", "--model", model, "--temperature", "2", "--seed", "1", "--max-tokens", "480", "a"];
    const { code, stderr } = await runCli(args, { interruptOn: { stream: "stdout", text: /./ } });
    expect(code).toBe(130);
    expect(stderr).toMatch(/interrupted/);
  });

  it("exits with 1 and a message on a folder without a model, printing nothing", async () => {
    const { code, stdout, stderr } = await runCli(["generate", "--model", folder, "a"]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
    expect(stderr).toContain("config.json");
  });
});

describe("heed generate without a model", () => {
  it("runs the one that comes with Heed, the same text for the same seed", async () => {
    const run = () => runMain(["generate", "--json", "--seed", "7", "--max-tokens", "12", "ROMEO:"]);
    const [first, second] = [await run(), await run()];
    expect(first.code).toBe(0);
    expect((JSON.parse(first.stdout) as { text: string }).text).toHaveLength(12);
    expect(JSON.parse(second.stdout).ids).toEqual(JSON.parse(first.stdout).ids);
  });
});

describe("heed generate, wrong usage", () => {
  it("says in one message what a model is", async () => {
    const { code, stdout, stderr } = await runMain(["generate", "--model", "", "Once upon a time"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr.trim().split("\n")).toHaveLength(1);
    expect(stderr).toContain("--model");
  });

  it.each([
    ["--max-tokens", "0", "a whole number of at least 1"],
    ["--max-tokens", "2.5", "a whole number of at least 1"],
    ["--temperature", "-1", "a number from 0 to 100"],
    ["--temperature", "warm", "a number from 0 to 100"],
    ["--top-k", "-1", "a whole number of at least 0"],
    ["--top-p", "1.1", "a number above 0, of at most 1"],
    ["--min-p", "2", "a number from 0 to 1"],
    ["--repetition-penalty", "0", "a number above 0, of at most 100"],
    ["--seed", "-3", "a whole number from 0 to 9007199254740991"],
    ["--ids", "1,a", "token ids"],
    ["--dtype", "f8", "f32, f16"],
    ["--tier", "top", "core, subgroups, f16, full"],
  ])("refuses %s %s and tells the rule", async (option, value, rule) => {
    const { code, stdout, stderr } = await runMain(["generate", "--model", "x", option, value, "hello"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(option);
    expect(stderr).toContain(rule);
  });

  it("refuses options that --greedy can't honour", async () => {
    const { code, stderr } = await runMain([
      "generate",
      "--model",
      "x",
      "--greedy",
      "--top-k",
      "4",
      "--min-p",
      "0.1",
      "hello",
    ]);
    expect(code).toBe(2);
    expect(stderr).toContain("--top-k, --min-p");
  });

  it("refuses --revision where there are no revisions", async () => {
    const { code, stderr } = await runMain(["generate", "--model", "./folder", "--revision", "main", "hello"]);
    expect(code).toBe(2);
    expect(stderr).toContain("--revision needs a Hub model");
  });

  it.each([[[]], [["--ids", "1,2", "hello"]]])("needs exactly one prompt, got %j", async (args) => {
    const { code, stderr } = await runMain(["generate", "--model", "x", ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain("one prompt is needed");
  });
});
