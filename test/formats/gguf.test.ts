import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { isHeedError } from "../../src/core/errors.ts";
import type { SourceFile } from "../../src/core/source.ts";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { GGUF_NAMING, hubName } from "../../src/formats/gguf_names.ts";
import { readGgufHeader } from "../../src/formats/gguf_reader.ts";
import { readTensorF32 } from "../../src/formats/stream_tensor.ts";
import { BlobFile, filesSource } from "../../src/sources/files.ts";
import { openTokenizers } from "../../src/text/open_tokenizers.ts";
import { readJson } from "../support/assets.ts";
import { type GgufFieldToWrite, type GgufTensorToWrite, writeGguf } from "../support/gguf.ts";
import { createRandom, testSeed } from "../support/random.ts";

const NAMES = readJson<Record<string, Record<string, string>>>(
  join(fileURLToPath(new URL("../fixtures", import.meta.url)), "gguf_names.json"),
);

const METADATA: Record<string, GgufFieldToWrite> = {
  "general.architecture": "llama",
  "llama.context_length": 64,
  "llama.embedding_length": 32,
  "llama.block_count": 1,
  "llama.feed_forward_length": 64,
  "llama.attention.head_count": 4,
  "llama.attention.head_count_kv": 2,
  "llama.attention.layer_norm_rms_epsilon": { f32: 1e-5 },
  "tokenizer.ggml.model": "gpt2",
  "tokenizer.ggml.pre": "llama-bpe",
  "tokenizer.ggml.tokens": ["a", "b", "ab", "<|begin|>", "<|end|>", "Ġ"],
  "tokenizer.ggml.token_type": { i32s: [1, 1, 1, 3, 3, 1] },
  "tokenizer.ggml.merges": ["a b"],
  "tokenizer.ggml.bos_token_id": 3,
  "tokenizer.ggml.eos_token_id": 4,
  "tokenizer.chat_template": "{{ bos_token }}",
};

function f32(shape: number[], value: (i: number) => number): GgufTensorToWrite {
  const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => value(i));
  return { type: 0, shape, data: new Uint8Array(data.buffer) };
}

const TENSORS = new Map<string, GgufTensorToWrite>([
  ["token_embd.weight", f32([6, 32], (i) => i)],
  // Rows of two key heads of 8 channels each, numbered as converted.
  ["blk.0.attn_k.weight", f32([16, 32], (i) => Math.floor(i / 32))],
  ["rope_freqs.weight", f32([4], (i) => (i < 2 ? 1 : 8))],
]);

const source = (bytes: Uint8Array<ArrayBuffer>) => filesSource(new Map([["m.gguf", new Blob([bytes])]]));
const open = (metadata = METADATA, tensors = TENSORS) => openCheckpoint(source(writeGguf(metadata, tensors)));

describe("openGguf", () => {
  it("gives the Hub's config, names and order of rows, and what its small files say", async () => {
    const checkpoint = await open();
    expect(checkpoint.config).toMatchObject({
      model_type: "llama",
      hidden_size: 32,
      num_key_value_heads: 2,
      head_dim: 8,
      vocab_size: 6,
    });
    expect(checkpoint.config["rope_scaling"]).toMatchObject({ rope_type: "llama3", factor: 8 });
    expect(checkpoint.config["tie_word_embeddings"]).toBe(true);
    const key = checkpoint.tensors.get("model.layers.0.self_attn.k_proj.weight");
    if (!key) throw new Error("no key");
    const rows = (await readTensorF32(key)).filter((_, i) => i % 32 === 0);
    expect([...rows]).toEqual([0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]);
    expect(checkpoint.generationConfig).toEqual({ bos_token_id: 3, eos_token_id: [4] });
    const config = JSON.parse((await checkpoint.source.readText("tokenizer_config.json")) ?? "{}") as Record<
      string,
      unknown
    >;
    expect(config).toMatchObject({ chat_template: "{{ bos_token }}", bos_token: "<|begin|>", eos_token: "<|end|>" });
    const tokenizer = (await openTokenizers(checkpoint))?.source;
    expect(tokenizer?.encode("ab a")).toEqual([3, 2, 5, 0]);
    expect(tokenizer?.encode("<|end|>a", { allowSpecial: true })).toEqual([3, 4, 0]);
  });

  it.each(Object.keys(NAMES))("names the tensors of %s as the gguf package does", (arch) => {
    const naming = GGUF_NAMING.get(arch);
    if (!naming) throw new Error(arch);
    const pairs = Object.entries(NAMES[arch] ?? {});
    expect(pairs.length).toBeGreaterThan(5);
    for (const [hub, gguf] of pairs) expect(hubName(naming, gguf), gguf).toBe(hub.replace(/^transformer\./, ""));
  });

  it.each([
    ["another architecture", { "general.architecture": "mamba" }, "UNSUPPORTED", /"mamba".*llama, qwen2/],
    ["a missing key", { "llama.block_count": "x" }, "UNSUPPORTED", /llama\.block_count must be one number/],
    ["words cut in another way", { "tokenizer.ggml.pre": "tekken" }, "UNSUPPORTED", /"tekken"/],
    ["a strange alignment", { "general.alignment": 3 }, "BAD_FILE", /alignment/],
  ] as [string, Record<string, GgufFieldToWrite>, string, RegExp][])("refuses %s", async (_, fields, code, message) => {
    const work = open({ ...METADATA, ...fields }).then((checkpoint) => openTokenizers(checkpoint));
    const error: unknown = await work.catch((reason: unknown) => reason);
    expect(isHeedError(error) && error.code, String(error)).toBe(code);
    expect(String(error)).toMatch(message);
  });

  it("names the type of a tensor that it cannot read, when it is asked for", async () => {
    const tensors = new Map([
      ...TENSORS,
      ["output.weight", { type: 10, shape: [6, 256], data: new Uint8Array(504) }],
    ] as const);
    const entry = (await open(METADATA, tensors)).tensors.get("lm_head.weight");
    expect(() => entry?.format).toThrow(/output\.weight is Q2_K/);
  });

  it("says what a file of another kind is", async () => {
    const named = (name: string, content: string) => ({
      ...filesSource(new Map([[name, new Blob([content])]])),
      only: name,
    });
    await expect(openCheckpoint(named("m.gguf", "version https://git-lfs.github.com/spec/v1\n"))).rejects.toThrow(
      /Git LFS pointer/,
    );
    await expect(openCheckpoint(named("m.gguf", "<html>"))).rejects.toThrow(/web page/);
    await expect(openCheckpoint(named("m.onnx", "\u0008\u0007\u0012"))).rejects.toThrow(
      /one \.gguf file; got m\.onnx, which is an ONNX model/,
    );
  });

  it("gives a typed error or a header for damaged ones, and reads little", async () => {
    const good = writeGguf(METADATA, TENSORS);
    const random = createRandom(testSeed("damaged gguf", 53));
    const codes = new Map<string, number>();
    for (let run = 0; run < (process.env["HEED_LONG"] === "1" ? 20_000 : 1000); run++) {
      const bytes = good.slice(0, random.int(0, 4) === 0 ? random.int(0, good.length) : good.length);
      for (let n = random.int(1, 6); n > 0 && bytes.length > 0; n--) {
        const at = random.int(0, Math.min(bytes.length - 1, 1400));
        // Large counts and lengths are what allocates.
        for (let i = 0; i < random.pick([1, 1, 4, 8]) && at + i < bytes.length; i++)
          bytes[at + i] = random.pick([0xff, 0x7f, 0, random.int(0, 255)]);
      }
      let code = "none";
      try {
        const checkpoint = await openCheckpoint(source(bytes));
        await openTokenizers(checkpoint);
      } catch (error) {
        code = isHeedError(error) ? error.code : String(error);
      }
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    expect([...codes.keys()].filter((code) => !["none", "BAD_FILE", "UNSUPPORTED"].includes(code))).toEqual([]);
    expect(codes.get("BAD_FILE")).toBeGreaterThan(0);
  });

  it("allocates nothing by what a header states", async () => {
    const bytes = writeGguf(METADATA, TENSORS);
    const claimed = bytes.slice();
    // A file that says it is 100 GB, with 2^40 metadata keys, then with 60,000 tensors.
    new DataView(claimed.buffer).setBigUint64(16, 2n ** 40n, true);
    const file: SourceFile = Object.assign(new BlobFile(new Blob([claimed]), "m.gguf"), { sizeBytes: claimed.length });
    await expect(readGgufHeader(file)).rejects.toMatchObject({ code: "BAD_FILE" });
    new DataView(claimed.buffer).setBigUint64(16, 16n, true);
    new DataView(claimed.buffer).setBigUint64(8, 60_000n, true);
    await expect(readGgufHeader(new BlobFile(new Blob([claimed]), "m.gguf"))).rejects.toMatchObject({
      code: "BAD_FILE",
    });
  });
});
