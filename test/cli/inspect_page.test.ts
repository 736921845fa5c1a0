import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { runMain } from "../support/cli.ts";
import { goldenPath } from "../support/goldens.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-inspect-page-"));
const marian = fileURLToPath(new URL("../fixtures/goldens/marian", import.meta.url));
afterAll(() => rmSync(folder, { recursive: true }));

/** The data of a page that `heed inspect --html` wrote. */
async function page(...args: string[]) {
  const file = join(folder, "page.html");
  const { code, stdout, stderr } = await runMain(["inspect", "--html", file, ...args]);
  expect({ code, stdout }).toEqual({ code: 0, stdout: "" });
  expect(stderr).toContain(`wrote ${file}`);
  const [, json = "{}"] = /id="data">([\s\S]*?)<\/script>/.exec(readFileSync(file, "utf8")) ?? [];
  return JSON.parse(json);
}

const sumOfRow = (base64: string, row: number, keys: number) => {
  const bytes = Buffer.from(base64, "base64");
  return Array.from({ length: keys }, (_, j) => bytes.readUInt16LE(2 * (row * keys + j)) / 65535).reduce(
    (a, b) => a + b,
    0,
  );
};

describe("heed inspect --html", () => {
  it("writes every layer and head of a decoder", async () => {
    const { parts, next } = await page("--model", goldenPath("gemma2"), "--ids", "5,9,3,7");
    expect(parts).toHaveLength(1);
    expect(parts[0].queries).toEqual(["5", "9", "3", "7"]);
    expect(parts[0].layers.map((l: { heads: unknown[] }) => l.heads.length)).toEqual([4, 4]);
    const { weights, entropy } = parts[0].layers[1].heads[2];
    for (const row of [0, 1, 2, 3]) expect(sumOfRow(weights, row, 4)).toBeCloseTo(1, 3);
    expect(entropy).toBeGreaterThan(0);
    expect(next).toHaveLength(5);
  });

  it("writes an encoder–decoder's cross-attention too, and its numbers with --json", async () => {
    const ids = ["--model", marian, "--ids", "5,9,3,7,2", "--decoder-ids", "0,4,6"];
    const { parts } = await page(...ids);
    expect(parts.map((p: { queries: string[]; keys: string[] }) => [p.queries.length, p.keys.length])).toEqual([
      [3, 5],
      [3, 3],
    ]);
    expect(sumOfRow(parts[0].layers[0].heads[0].weights, 0, 5)).toBeCloseTo(1, 3);
    const { code, stdout } = await runMain(["inspect", ...ids, "--json"]);
    expect(code).toBe(0);
    const { crossLayers, layers, sourceTokens, tokens } = JSON.parse(stdout);
    expect([sourceTokens.length, tokens.length]).toEqual([5, 3]);
    expect(crossLayers[0].heads[0].queries[0].weights).toHaveLength(5);
    expect(layers[0].heads[0].queries[1].weights).toHaveLength(2);
    expect(crossLayers[0].heads[0].entropy).toBeGreaterThan(0);
  });
});
