import { beforeAll, describe, expect, it } from "vitest";
import { findPackage } from "../../src/gpu/drivers_node.ts";
import { ensureBuilt } from "../support/built.ts";
import { runCli } from "../support/cli.ts";

const MASKED = { VK_DRIVER_FILES: "/nonexistent", LD_LIBRARY_PATH: "" };
const hasSwiftShader = process.arch === "x64" && findPackage("@sparticuz/chromium") !== undefined;

beforeAll(ensureBuilt);

describe("heed doctor", () => {
  it("prints exactly the promised fields as JSON, and nothing else, on stdout", async () => {
    const { code, stdout } = await runCli(["doctor", "--json"]);
    expect(code).toBe(0);
    const report = JSON.parse(stdout);
    expect(Object.keys(report)).toEqual([
      "adapter",
      "tier",
      "features",
      "subgroup",
      "limits",
      "drivers",
      "speed",
      "tuning",
      "problems",
    ]);
    expect(Object.keys(report.subgroup)).toEqual(["min", "max"]);
    expect(report.limits.maxStorageBuffersPerShaderStage).toBeGreaterThanOrEqual(8);
    expect(report.drivers.some((driver: { present: boolean }) => driver.present)).toBe(true);
    expect(report.speed.fmaGflops).toBeGreaterThan(0.1);
    expect(report.speed.copyGBs).toBeGreaterThan(0.01);
  });

  it("prints adapter, tier, limits, drivers and speed for people, without colours when piped", async () => {
    const { code, stdout, stderr } = await runCli(["doctor"]);
    expect(code).toBe(0);
    for (const title of ["adapter", "tier", "limits", "drivers", "speed"])
      expect(stdout).toMatch(new RegExp(`^${title} `, "m"));
    expect(stdout).not.toContain("\x1b[");
    expect(stderr).toContain("measuring speed");
  });

  it("uses no more than the tier that --tier names", async () => {
    const { stdout } = await runCli(["doctor", "--json", "--tier", "core"]);
    const { tier, subgroup, features, limits } = JSON.parse(stdout);
    expect({ tier, subgroup }).toEqual({ tier: "core", subgroup: { min: 0, max: 0 } });
    expect(features).not.toContain("shader-f16");
    expect(limits.maxComputeWorkgroupStorageSize).toBe(16384);
  });

  it("refuses an unknown tier with exit code 2", async () => {
    const { code, stderr, stdout } = await runCli(["doctor", "--tier", "best"]);
    expect(code).toBe(2);
    expect(stderr).toContain("core, subgroups, f16, full");
    expect(stdout).toBe("");
  });

  it("obeys FORCE_COLOR, and NO_COLOR above it", async () => {
    const colored = await runCli(["doctor", "--no-software-gpu"], { env: { ...MASKED, FORCE_COLOR: "1" } });
    expect(colored.stdout).toContain("\x1b[");
    const plain = await runCli(["doctor", "--no-software-gpu"], {
      env: { ...MASKED, FORCE_COLOR: "1", NO_COLOR: "1" },
    });
    expect(plain.stdout).not.toContain("\x1b[");
  });
});

describe("heed doctor without a driver", () => {
  it("names both installs and exits with 3 under --no-software-gpu", async () => {
    const { code, stdout } = await runCli(["doctor", "--json", "--no-software-gpu"], { env: MASKED });
    expect(code).toBe(3);
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ adapter: null, tier: null, subgroup: null, speed: null });
    expect(report.drivers).toEqual([{ file: "/nonexistent", origin: "environment", present: false }]);
    expect(report.problems.join()).toContain("apt install -t bookworm-backports mesa-vulkan-drivers");
    expect(report.problems.join()).toContain("npm i -D @sparticuz/chromium");
  });

  it.skipIf(!hasSwiftShader)("starts again on SwiftShader and says so once (needs @sparticuz/chromium)", async () => {
    const { code, stdout, stderr } = await runCli(["doctor", "--json"], { env: MASKED });
    expect(code).toBe(0);
    expect(JSON.parse(stdout).adapter.architecture).toBe("swiftshader");
    expect(stderr.match(/starting again on SwiftShader/g)).toHaveLength(1);
    expect(stderr).not.toContain("Warning:");
  });

  it.skipIf(!hasSwiftShader)("passes Ctrl-C on to that process (needs @sparticuz/chromium)", async () => {
    const { code, stdout } = await runCli(["doctor", "--json"], {
      env: MASKED,
      interruptOn: { stream: "stderr", text: /measuring speed/ },
    });
    expect(code).toBe(130);
    expect(stdout).toBe("");
  });

  it("does not start again a second time", async () => {
    const { code, stderr } = await runCli(["doctor"], { env: { ...MASKED, HEED_RELAUNCHED: "1" } });
    expect(code).toBe(3);
    expect(stderr).not.toContain("starting again");
  });
});
