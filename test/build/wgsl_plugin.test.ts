import { describe, expect, it } from "vitest";
import { stripComments, wgsl } from "../../build/wgsl_plugin.ts";

describe("wgsl plugin", () => {
  it("strips comments and keeps each token on its line", () => {
    const source = "// head\nfn a() { /* one\n /* two */ still\n */ return; } // tail\n  let b = 1 / 2;\n//end";
    expect(stripComments(source)).toBe("\nfn a() {\n\nreturn; }\nlet b = 1 / 2;\n");
  });

  it("separates tokens that only a comment stood between", () => {
    expect(stripComments("let/**/x = 1;")).toBe("let x = 1;");
  });

  it("leaves other files to other plugins", async () => {
    expect(await wgsl({ strip: true }).load("/somewhere/a.ts")).toBeNull();
  });
});
