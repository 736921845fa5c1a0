import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { composeShader, packParams } from "../../src/gpu/compose.ts";

const SHADERS = fileURLToPath(new URL("../../shaders", import.meta.url));
const STORAGE = /^@group\(0\) @binding\(\d+\) var<storage/gm;

/** Storage bindings that WebGPU's default limits allow a stage, and so tier core. */
const CORE_BINDINGS = 8;

const kernels = readdirSync(SHADERS).filter((f) => f.endsWith(".wgsl"));
const parts = readdirSync(join(SHADERS, "lib")).map((f) => `lib/${f}`);

describe("shaders", () => {
  it.each(kernels)("%s says what it computes and keeps to the bindings of tier core", (file) => {
    const code = readFileSync(join(SHADERS, file), "utf8");
    expect(code.startsWith("// ")).toBe(true);
    expect(code).toMatch(/workgroup memory/i);
    expect(code).toMatch(/fn main\(/);
    expect(code.match(STORAGE)?.length ?? 0).toBeLessThanOrEqual(CORE_BINDINGS);
  });

  it("are all imported by the engine", () => {
    const sources = readdirSync(join(SHADERS, "../src"), { recursive: true, encoding: "utf8" })
      .filter((f) => f.endsWith(".ts"))
      .map((f) => readFileSync(join(SHADERS, "../src", f), "utf8"))
      .join("\n");
    expect([...kernels, ...parts].filter((file) => !sources.includes(`shaders/${file}"`))).toEqual([]);
  });

  it("are joined so that a line of the whole leads back to its file", () => {
    const composed = composeShader({
      kernel: { file: "k.wgsl", code: "// kernel\nfn main() {}\n" },
      parts: [{ file: "lib/p.wgsl", code: "// part\nfn p() {}" }],
      constants: { SIZE: 4, FLAG: true },
    });
    const lines = composed.code.split("\n");
    expect(composed.locate(lines.indexOf("fn main() {}") + 1)).toEqual({ file: "k.wgsl", line: 2 });
    expect(composed.locate(lines.indexOf("fn p() {}") + 1)).toEqual({ file: "lib/p.wgsl", line: 2 });
    expect(composed.code).toContain("const SIZE: u32 = 4u;\nconst FLAG: bool = true;");
  });

  it("get their parameters by name, and refuse a missing, surplus or impossible one", () => {
    const fields = [
      { name: "n", type: "u32" },
      { name: "eps", type: "f32" },
    ] as const;
    const view = new DataView(packParams(fields, { eps: 0.5, n: 7 }, "k"));
    expect([view.getUint32(0, true), view.getFloat32(4, true), view.byteLength]).toEqual([7, 0.5, 16]);
    expect(() => packParams(fields, { n: 7 }, "k")).toThrowError(/no value for Params\.eps/);
    expect(() => packParams(fields, { n: 7, eps: 1, m: 2 }, "k")).toThrowError(/no field "m"/);
    expect(() => packParams(fields, { n: -1, eps: 1 }, "k")).toThrowError(/no u32/);
  });
});
