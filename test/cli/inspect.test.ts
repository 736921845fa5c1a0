import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROOT } from "../support/built.ts";
import { runMain } from "../support/cli.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-inspect-"));
const model = join(folder, "tiny_llama");

beforeAll(() => {
  execFileSync(process.execPath, [`${ROOT}/test/fixtures/write_tiny_llama.mjs`, model]);
});
afterAll(() => rmSync(folder, { recursive: true }));

const inspect = (...args: string[]) => runMain(["inspect", "--model", model, ...args]);

describe("heed inspect", () => {
  it("prints weights and summaries of every layer and head as JSON; each row of weights adds up to 1", async () => {
    const { code, stdout } = await inspect("--json", "--top-keys", "2", "hello");
    expect(code).toBe(0);
    const result = JSON.parse(stdout);
    expect(result.tokens.map((t: { text: string }) => t.text).join("")).toContain("hello");
    const T = result.tokens.length;
    expect(result.layers.map((l: { layer: number }) => l.layer)).toEqual([0, 1]);
    for (const { heads } of result.layers) {
      expect(heads.map((h: { head: number }) => h.head)).toEqual([0, 1, 2]);
      for (const { queries } of heads) {
        expect(queries).toHaveLength(T);
        queries.forEach((row: { query: number; weights: number[]; topKeys: { key: number; weight: number }[] }) => {
          expect(row.weights).toHaveLength(row.query + 1);
          expect(row.weights.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 4);
          expect(row.topKeys[0]?.weight).toBe(Math.max(...row.weights));
        });
      }
    }
    expect(result.next).toHaveLength(2);
  });

  it("shows chosen heads of the last token as a table, and captures and switches off what it is told", async () => {
    const table = await inspect("--layers", "1", "--heads", "2,0", "hello");
    expect(table.stdout.trim().split("\n")).toHaveLength(3);
    expect(table.stdout).toMatch(/^1\t0\t5\t/m);
    const name = "block.0.attention.mixed";
    const { stdout } = await inspect("--json", "--capture", name, "--ablate", "0.1", "--ids", "5,6");
    const { shape, data } = JSON.parse(stdout).values[name];
    expect(shape).toEqual([2, 48]);
    expect(data.slice(16, 32)).toEqual(Array(16).fill(0));
    expect(data.slice(0, 16)).not.toContain(0);
  });

  it("looks into an encoder: every token sees every other, and no next one follows", async () => {
    const args = ["inspect", "--model", join(ROOT, "test/fixtures/goldens/bert_span"), "--ids", "5,9,3", "--json"];
    const { code, stdout } = await runMain(args);
    const { layers, next } = JSON.parse(stdout);
    expect([code, next]).toEqual([0, undefined]);
    for (const { weights } of layers[1].heads[3].queries) {
      expect(weights).toHaveLength(3);
      expect(weights[0] + weights[1] + weights[2]).toBeCloseTo(1, 4);
    }
  });

  it("takes the model that comes with Heed where none is named", async () => {
    const { code, stdout } = await runMain(["inspect", "--layers", "0", "--heads", "0", "To be"]);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^layer\thead.*\n0\t0\t4\t/)]);
  });

  it("lists the values that can be captured", async () => {
    const { stdout } = await inspect("--values", "--ids", "1,2,3");
    expect(stdout).toContain("block.1.attention.probs [1, 3, 3, 3]\n");
    expect(stdout).toMatch(/logits \[3, 258\]\n$/);
  });

  it.each([
    [["--layers", "x", "a"], "whole numbers such as 0,3"],
    [["--ablate", "3", "a"], "heads as layer.head"],
    [["--capture", "norm", "a"], "Add --json"],
    [[], "one prompt is needed"],
    [["--layers", "7", "a"], "attention.layers must be whole numbers from 0 to 1; got 7"],
    [["--json", "--capture", "block.0.attention.prob", "a"], 'near it are "block.0.attention.probs"'],
  ])("refuses %j as wrong usage", async (args, message) => {
    const { code, stderr } = await inspect(...args);
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(message) });
  });
});
