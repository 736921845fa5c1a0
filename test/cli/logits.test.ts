import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROOT } from "../support/built.ts";
import { runMain } from "../support/cli.ts";
import { assertClose } from "../support/close.ts";
import { goldenPath, readGolden } from "../support/goldens.ts";
import { tolerance } from "../support/tolerances.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-chat-"));
const TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}<|assistant|>";

beforeAll(() => {
  execFileSync(process.execPath, [`${ROOT}/test/fixtures/write_tiny_llama.mjs`, folder]);
  const path = join(folder, "tokenizer_config.json");
  let config: object = {};
  try {
    config = JSON.parse(readFileSync(path, "utf8"));
  } catch {
    // The writer makes none.
  }
  writeFileSync(path, JSON.stringify({ ...config, chat_template: TEMPLATE }));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function json(...args: string[]) {
  const { code, stdout, stderr } = await runMain([...args, "--json"]);
  expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
  return JSON.parse(stdout);
}

describe("heed logits", () => {
  it("prints every position's logits, with and without a prefix", async () => {
    const [golden] = readGolden("llama_gqa");
    const args = ["logits", "--model", goldenPath("llama_gqa"), "--ids", golden!.ids.join(",")];
    const check = (logits: number[][], expected: Float64Array) =>
      assertClose(Float32Array.from(logits.flat()), expected, { ...tolerance("f32", "logits"), label: "logits" });
    const plain = await json(...args);
    expect(Object.keys(plain)).toEqual(["logits"]);
    check(plain.logits, golden!.logits);
    const { length, logits } = golden!.prefix!;
    check((await json(...args, "--prefix", String(length))).logits, logits);
  });

  it("refuses what means nothing", async () => {
    const none = await runMain(["logits", "--ids", "1"]);
    expect([none.code, none.stderr]).toEqual([2, expect.stringContaining("--model and --ids are needed")]);
    const model = ["--model", goldenPath("llama_gqa")];
    const decoder = await runMain(["logits", ...model, "--ids", "1", "--decoder-ids", "2"]);
    expect([decoder.code, decoder.stderr]).toEqual([2, expect.stringContaining("--decoder-ids means nothing")]);
  });
});

describe("heed generate", () => {
  const model = ["generate", "--model", goldenPath("llama_gqa")];

  it("searches with beams from ids, without a tokenizer", async () => {
    const [golden] = readGolden("llama_gqa");
    const ids = ["--ids", golden!.ids.join(","), "--max-tokens", "8"];
    const result = await json(...model, ...ids, "--beams", "4", "--num-return", "4");
    expect(result.sequences.map((s: { ids: number[] }) => s.ids)).toEqual(golden!.beams.map((b) => b.tokens));
    expect(result.ids.generated).toEqual(golden!.beams[0]?.tokens);
    expect(result.score).toBeCloseTo(golden!.beams[0]!.score, 4);
  });

  it("gives log-probabilities, and keeps to rules on tokens", async () => {
    const ids = ["--ids", "5,9,3", "--greedy", "--max-tokens", "6"];
    const plain = await json(...model, ...ids, "--logprobs", "2");
    expect(plain.logprobs.map((l: { id: number }) => l.id)).toEqual(plain.ids.generated);
    for (const { id, logprob, top } of plain.logprobs) {
      expect(top[0]).toEqual({ id, logprob });
      expect(top[0].logprob).toBeGreaterThanOrEqual(top[1].logprob);
      expect(logprob).toBeLessThan(0);
    }
    const [first] = plain.ids.generated;
    const without = await json(...model, ...ids, "--suppress-tokens", String(first));
    expect(without.ids.generated).not.toContain(first);
    expect(without.ids.generated[0]).toBe(plain.logprobs[0].top[1].id);
    const forced = await json(...model, ...ids, "--forced-eos", "7", "--no-repeat-ngram", "1");
    expect(forced.ids.generated.at(-1)).toBe(7);
    expect(new Set(forced.ids.generated).size).toBe(6);
  });

  it("answers by the chat template, as heed chat does", async () => {
    const options = ["--model", folder, "--greedy", "--max-tokens", "5"];
    const generated = await json("generate", ...options, "--chat", "Hi");
    const prompt = "<|user|>Hi\n<|assistant|>";
    expect(generated.ids.prompt).toHaveLength(prompt.length);
    const chat = await json("chat", ...options, "Hi");
    expect(chat.ids).toEqual(generated.ids);
    expect(chat.messages).toEqual([
      { role: "user", content: "Hi" },
      { role: "assistant", content: chat.text },
    ]);
    const told = await json("chat", ...options, "--system", "Be brief.", "Hi");
    expect(told.ids.prompt).toHaveLength(prompt.length + "<|system|>Be brief.\n".length);
  });

  it("says that a checkpoint has no chat template", async () => {
    const { code, stderr } = await runMain(["chat", "--model", goldenPath("llama_gqa"), "Hi"]);
    expect([code, stderr]).toEqual([1, expect.stringContaining("the checkpoint has no tokenizer")]);
  });
});
