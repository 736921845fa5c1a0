import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

/** A tone of so many samples at 16 kHz, 8 bits. */
function toneWav(samples: number): Buffer {
  const header = Buffer.alloc(44);
  header.write("RIFF\0\0\0\0WAVEfmt ", "latin1");
  header.set([16, 0, 0, 0, 1, 0, 1, 0], 16);
  header.writeUInt32LE(16_000, 24);
  header.writeUInt32LE(16_000, 28);
  header.set([1, 0, 8, 0], 32);
  header.write("data", 36, "latin1");
  header.writeUInt32LE(samples, 40);
  return Buffer.concat([header, Uint8Array.from({ length: samples }, (_, i) => 128 + 60 * Math.sin(i / 5))]);
}

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

  it("shows where in a recording a model of speech looks", async () => {
    const [whisper, wav] = [join(ROOT, "test/fixtures/goldens/whisper"), join(folder, "tone.wav")];
    writeFileSync(wav, toneWav(8000));
    const { code, stdout } = await runMain(["inspect", "--model", whisper, "--json", wav]);
    expect(code).toBe(0);
    const { tokens, sourceTokens, crossLayers, layers } = JSON.parse(stdout);
    expect([sourceTokens.length, sourceTokens[1].text]).toEqual([50, "0.02 s"]);
    expect([crossLayers.length, layers.length]).toEqual([2, 2]);
    for (const { queries } of crossLayers[1].heads) {
      expect(queries).toHaveLength(tokens.length);
      for (const { weights } of queries) {
        expect(weights).toHaveLength(50);
        expect(weights.reduce((a: number, b: number) => a + b, 0)).toBeCloseTo(1, 4);
      }
    }
    const html = join(folder, "sound.html");
    const page = await runMain(["inspect", "--model", whisper, "--decoder-ids", "50,52,55", "--html", html, wav]);
    expect([page.code, readFileSync(html, "utf8")]).toEqual([0, expect.stringContaining("attends to the sound")]);
    const values = await runMain(["inspect", "--model", whisper, "--decoder-ids", "50,52,55", "--values", wav]);
    expect(values.stdout).toContain("block.1.cross_attention.probs [1, 4, 3, 50]\n");
    const long = join(folder, "long.wav");
    writeFileSync(long, toneWav(20_000));
    for (const [args, message] of [
      [["--ids", "1,2"], "reads sound, so --ids means nothing"],
      [["--prefix", "2", wav], "there is no --prefix"],
      [["nowhere.wav"], "there is no file nowhere.wav"],
      [[long], "reads 1 seconds of sound at once; got 1.3"],
    ] as const) {
      const { stderr } = await runMain(["inspect", "--model", whisper, ...args]);
      expect(stderr).toContain(message);
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
