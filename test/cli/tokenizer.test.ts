import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { runMain } from "../support/cli.ts";

const folder = mkdtempSync(join(tmpdir(), "heed-tokenizer-"));
afterAll(() => rmSync(folder, { recursive: true }));

const LINES = "the cat sat on the mat\nthe dog sat on the log\n我是一名工程师。\n";

function write(name: string, data: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, data);
  return path;
}

const train = (path: string, output: string, ...options: string[]) =>
  runMain(["tokenizer", "train", path, "--output", join(folder, output), ...options]);
const written = (output: string) => readFileSync(join(folder, output, "tokenizer.json"), "utf8");

describe("heed tokenizer train", () => {
  it("writes the same two files from packed text, from lines with CR LF, and twice", async () => {
    const bpe = ["--type", "bpe", "--vocab-size", "264", "--special", "<|endoftext|>"];
    const plain = await train(write("plain.txt", LINES), "plain", ...bpe, "--json");
    expect(JSON.parse(plain.stdout)).toEqual({ output: join(folder, "plain"), type: "bpe", tokens: 264 });
    expect(plain.stderr).not.toContain("were asked for");
    const again = await train(join(folder, "plain.txt"), "plain", ...bpe);
    expect([again.code, again.stderr]).toEqual([2, expect.stringMatching(/must have no tokenizer yet; got one in/)]);
    await train(write("packed.txt.gz", gzipSync(LINES)), "packed", ...bpe);
    await train(write("windows.txt", `\ufeff${LINES.replaceAll("\n", "\r\n")}`), "windows", ...bpe);
    expect([written("packed"), written("windows")]).toEqual([written("plain"), written("plain")]);
    const config = JSON.parse(readFileSync(join(folder, "plain", "tokenizer_config.json"), "utf8"));
    expect(config).toMatchObject({ tokenizer_class: "PreTrainedTokenizerFast", eos_token: "<|endoftext|>" });
  });

  it("says why there are fewer tokens than asked for, or more", async () => {
    const path = write("small.txt", LINES);
    const few = await train(path, "few", "--type", "wordpiece", "--vocab-size", "5000", "--min-frequency", "3");
    expect(few.stderr).toContain("5000 tokens were asked for: the text has no more pairs that occur 3 times");
    const many = await train(path, "many", "--type", "unigram", "--vocab-size", "12");
    expect(many.stderr).toContain("12 tokens were asked for: a unigram tokenizer keeps every character of its text");
  });

  it("reports a line that is not UTF-8 with its number, and leaves it out if asked", async () => {
    const path = write("bad.txt", Buffer.concat([Buffer.from("one\n"), Buffer.of(0xff, 0x0a), Buffer.from("two\n")]));
    const refused = await train(path, "refused", "--type", "characters");
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/bad\.txt line 2: must be UTF-8/)]);
    const skipped = await train(path, "skipped", "--type", "characters", "--unknown", "", "--skip-bad");
    expect([skipped.code, skipped.stderr]).toEqual([0, expect.stringMatching(/left out: .*line 2/)]);
    expect(Object.keys(JSON.parse(written("skipped")).model.vocab)).toEqual(["\n", "e", "n", "o", "t", "w"]);
    const config = JSON.parse(readFileSync(join(folder, "skipped", "tokenizer_config.json"), "utf8"));
    expect(config).not.toHaveProperty("unk_token");
  });

  it("refuses an output that is a file", async () => {
    const path = write("text.txt", LINES);
    const { code, stderr } = await train(path, "text.txt", "--type", "characters");
    expect([code, stderr]).toEqual([1, expect.stringMatching(/text\.txt must be a folder to write to/)]);
  });
});
