import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { ensureBuilt, ROOT } from "../support/built.ts";
import { runCli, runMain } from "../support/cli.ts";

const CASES = join(ROOT, "test/conformance/cases");

beforeAll(ensureBuilt, 150_000);

describe("heed conformance", () => {
  it("prints a line for each case, and the counts last", async () => {
    const { code, stdout } = await runCli(["conformance", CASES, "--filter", "softmax"]);
    expect(stdout).toBe("passed onnx/softmax\n1 passed, 0 failed, 0 skipped\n");
    expect(code).toBe(0);
  });

  it("prints one object under --json, and the closing line on stderr", async () => {
    const { code, stdout, stderr } = await runCli([
      "conformance",
      CASES,
      "--tier",
      "core",
      "--filter",
      "norm",
      "--json",
    ]);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(Object.keys(report)).toEqual(["passed", "failed", "skipped", "cases"]);
    expect(report.cases[0].outputs[0]).toMatchObject({ name: "Y", tier: "core", atol: 1e-5, rtol: 1e-4, ok: true });
    expect(stderr.trimEnd().split("\n").at(-1)).toBe("2 passed, 0 failed, 0 skipped");
  });

  it("refuses a folder that is not there, or has no case", async () => {
    const missing = await runMain(["conformance", join(CASES, "none")]);
    expect(missing).toMatchObject({ code: 2, stdout: "" });
    expect(missing.stderr).toContain("there is no folder");
    const empty = mkdtempSync(join(tmpdir(), "heed-conformance-"));
    const none = await runMain(["conformance", empty]);
    rmSync(empty, { recursive: true });
    expect(none.code).toBe(2);
    expect(none.stderr).toContain("must hold cases (.json)");
  });
});
