import { beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt } from "../support/built.ts";
import { runCli } from "../support/cli.ts";

beforeAll(ensureBuilt);

describe("heed generate, wrong usage", () => {
  it("says in one message how to name a model", async () => {
    const { code, stdout, stderr } = await runCli(["generate", "Once upon a time"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr.trim().split("\n")).toHaveLength(1);
    expect(stderr).toContain("--model hf:owner/name");
    expect(stderr).toContain("--model ./folder");
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
    const { code, stdout, stderr } = await runCli(["generate", "--model", "x", option, value, "hello"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(option);
    expect(stderr).toContain(rule);
  });

  it("refuses options that --greedy can't honour", async () => {
    const { code, stderr } = await runCli([
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

  it.each([[[]], [["--ids", "1,2", "hello"]]])("needs exactly one prompt, got %j", async (args) => {
    const { code, stderr } = await runCli(["generate", "--model", "x", ...args]);
    expect(code).toBe(2);
    expect(stderr).toContain("one prompt is needed");
  });
});
