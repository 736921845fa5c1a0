import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CHINESE } from "../../demo/text/chinese.ts";

const DEMO = join(import.meta.dirname, "../../demo");

/** The English texts that the page's sources hand to `t`. */
function englishTexts(): string[] {
  const files = readdirSync(DEMO, { recursive: true, encoding: "utf8" }).filter((file) => /\.(svelte|ts)$/.test(file));
  return files.flatMap((file) =>
    [...readFileSync(join(DEMO, file), "utf8").matchAll(/(?<![\w.])t\(\s*"((?:[^"\\]|\\.)*)"/g)].map(
      (m) => m[1] as string,
    ),
  );
}

const places = (text: string) => [...text.matchAll(/\{\w+\}/g)].map((m) => m[0]).sort();

describe("the page's texts", () => {
  const english = new Set(englishTexts());

  it("are all in Chinese too, with the same places for values", () => {
    expect(english.size).toBeGreaterThan(100);
    expect([...english].filter((text) => !(text in CHINESE))).toEqual([]);
    for (const text of english) expect(places(CHINESE[text] ?? ""), text).toEqual(places(text));
  });

  it("are all used", () => {
    expect(Object.keys(CHINESE).filter((text) => !english.has(text))).toEqual([]);
  });
});
