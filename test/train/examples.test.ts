import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { nodeGpu } from "../../src/gpu/platform_node.ts";
import { openSource } from "../../src/sources/open_source_node.ts";
import { createEngineWith } from "../../src/tasks/engine.ts";
import { parseRecipe } from "../../src/train/recipe.ts";
import { encoderGoldenPath } from "../support/encoder_goldens.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "heed-examples-"));
afterAll(() => rmSync(folder, { recursive: true }));

function runExample(script: string, ...args: string[]): string {
  return execFileSync(process.execPath, [join(EXAMPLES, script), ...args], { encoding: "utf8" });
}

describe("the recipes of examples", () => {
  const names = readdirSync(EXAMPLES, { recursive: true, encoding: "utf8" });

  it.each(names.filter((name) => /recipe\w*\.json$/.test(name)))("%s is understood in full", (name) => {
    const recipe: unknown = JSON.parse(readFileSync(join(EXAMPLES, name), "utf8"));
    expect(parseRecipe(recipe).output).not.toBe("");
  });
});

describe("xquad/split.mjs", () => {
  it("holds every sixth article out whole, and cuts texts to where their answer still is", () => {
    const context = Array.from({ length: 150 }, (_, i) => `word${i}`).join(" ");
    const article = (a: number) => {
      const answers = [3, 77, 149].map((word) => ({
        text: `word${word}`,
        answer_start: context.indexOf(`word${word}`),
      }));
      const qas = answers.map((answer, i) => ({ id: `${a}x${i}7f0${i}`, question: "Which?", answers: [answer] }));
      return { title: `article ${a}`, paragraphs: [{ context, qas }] };
    };
    const data = Array.from({ length: 12 }, (_, a) => article(a));
    const file = join(folder, "squad.json");
    writeFileSync(file, JSON.stringify({ version: "1.1", data }));
    expect(runExample("xquad/split.mjs", file, folder)).toBe(
      "train.json: 10 articles, 30 questions\nheld.json: 2 articles, 6 questions\n",
    );
    const read = (name: string) =>
      JSON.parse(readFileSync(join(folder, name), "utf8")) as { data: ReturnType<typeof article>[] };
    expect(read("held.json").data).toEqual([article(5), article(11)]);
    for (const { paragraphs } of read("train.json").data) {
      for (const { context: part, qas } of paragraphs) {
        expect(part.split(" ").length).toBe(52);
        for (const { answers } of qas) {
          for (const { text, answer_start: at } of answers) expect(part.slice(at, at + text.length)).toBe(text);
        }
      }
    }
  });
});

describe("sst2/mean_block.mjs", () => {
  it("puts a block on top whose first row is the mean of the rows below, normed", async () => {
    const base = encoderGoldenPath("bert_plain");
    const taller = join(folder, "taller");
    expect(runExample("sst2/mean_block.mjs", base, taller)).toContain("3 layers, the last the mean");
    const engine = await createEngineWith({ gpu: await nodeGpu() }, openSource);
    try {
      const ids = [5, 40, 12, 33, 8, 21];
      const below = await engine.loadEncoder(base, { pooling: "mean" });
      const above = await engine.loadEncoder(taller, { pooling: "cls" });
      const [{ vector: mean }, { vector: first }] = [await below.embed({ ids }), await above.embed({ ids })];
      expect(correlation(mean, first)).toBeGreaterThan(0.95);
    } finally {
      await engine.dispose();
    }
  });
});

/** What a norm leaves of two rows, compared: 1 where they differ by shift and scale alone. */
function correlation(a: Float32Array, b: Float32Array): number {
  const centred = (x: Float32Array) => x.map((v) => v - x.reduce((s, w) => s + w, 0) / x.length);
  const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, v, i) => sum + v * (y[i] as number), 0);
  const [x, y] = [centred(a), centred(b)];
  return dot(x, y) / Math.sqrt(dot(x, x) * dot(y, y));
}
