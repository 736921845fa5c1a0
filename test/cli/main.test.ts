import { beforeAll, describe, expect, it } from "vitest";
import packageJson from "../../package.json" with { type: "json" };
import { ensureBuilt } from "../support/built.ts";
import { runCli, runMain } from "../support/cli.ts";

beforeAll(ensureBuilt);

describe("heed", () => {
  it("prints its version", async () => {
    expect(await runCli(["--version"])).toEqual({ code: 0, stdout: `${packageJson.version}\n`, stderr: "" });
  });

  it.each([[["--help"]], [["generate", "--help"]], [["doctor", "--help"]]])("shows examples in %j", async (args) => {
    const { code, stdout, stderr } = await runMain(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    expect(stdout).toContain("Examples:\n  $ heed");
  });

  it.each([[[]], [["sing"]], [["doctor", "--sing"]], [["doctor", "too", "much"]]])(
    "answers wrong usage %j on stderr with exit code 2",
    async (args) => {
      const { code, stdout, stderr } = await runMain(args);
      expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
      expect(stderr).not.toBe("");
    },
  );
});
