import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ROOT } from "../support/built.ts";
import { runMain } from "../support/cli.ts";
import { assertClose } from "../support/close.ts";
import { goldenPath } from "../support/goldens.ts";
import { tolerance } from "../support/tolerances.ts";

const adapter = ["--adapter", join(ROOT, "test/fixtures/lora/gpt2")];
const model = ["--model", goldenPath("gpt2")];
const golden = JSON.parse(readFileSync(join(ROOT, "test/fixtures/lora/gpt2/expected.json"), "utf8"));

describe("--adapter", () => {
  it("gives PEFT's logits, and another text than the model alone", async () => {
    const ids = ["--ids", golden.ids.join(",")];
    const logits = await runMain(["logits", ...model, ...adapter, ...ids, "--json"]);
    const bytes = Buffer.from(golden.logits.data, "base64");
    const expected = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    const got = Float32Array.from(JSON.parse(logits.stdout).logits.flat());
    assertClose(got, Float64Array.from(expected), { ...tolerance("f32", "logits"), label: "logits" });
    const generate = ["generate", ...model, ...ids, "--greedy", "--max-tokens", "6"];
    const alone = await runMain(generate);
    const adapted = await runMain([...generate, ...adapter]);
    expect([alone.code, adapted.code]).toEqual([0, 0]);
    expect(adapted.stdout).not.toBe(alone.stdout);
  });

  it("finds the adapter in the folder of a run", async () => {
    const run = mkdtempSync(join(tmpdir(), "heed-run-"));
    try {
      cpSync(adapter[1] ?? "", join(run, "adapter"), { recursive: true });
      const args = ["generate", ...model, "--ids", golden.ids.join(","), "--greedy", "--max-tokens", "6"];
      const [inRun, itself] = [await runMain([...args, "--adapter", run]), await runMain([...args, ...adapter])];
      expect([inRun.code, inRun.stdout]).toEqual([0, itself.stdout]);
      const none = await runMain([...args, "--adapter", goldenPath("gpt2")]);
      expect([none.code, none.stderr]).toEqual([1, expect.stringMatching(/itself or in adapter\/; got no config/)]);
    } finally {
      rmSync(run, { recursive: true });
    }
  });

  it("says what is wrong with an adapter, and where an adapter was named as the model", async () => {
    const other = await runMain([...["generate", "--model", goldenPath("llama_gqa"), ...adapter, "--ids", "5"]]);
    expect([other.code, other.stderr]).toEqual([1, expect.stringContaining("adapter and model belong together")]);
    const swapped = await runMain(["generate", "--model", adapter[1] ?? "", "--ids", "5"]);
    expect([swapped.code, swapped.stderr]).toEqual([1, expect.stringContaining("--adapter")]);
  });
});
