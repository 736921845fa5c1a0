import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { isHeedError } from "../../src/core/errors.ts";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { readPytorch } from "../../src/formats/pytorch.ts";
import { encodeSafetensors } from "../../src/formats/safetensors_write.ts";
import { streamTensor } from "../../src/formats/stream_tensor.ts";
import { BlobFile, filesSource } from "../../src/sources/files.ts";
import { readJson } from "../support/assets.ts";
import { createRandom, testSeed } from "../support/random.ts";

const FIXTURES = fileURLToPath(new URL("../fixtures/pytorch_files", import.meta.url));
const EXPECTED = readJson<Record<string, { dtype: string; shape: number[]; values: number[] }>>(
  join(FIXTURES, "expected.json"),
);

const bytesOf = (name: string) => Uint8Array.from(readFileSync(join(FIXTURES, name)));
const fileOf = (bytes: Uint8Array<ArrayBuffer>, name = "pytorch_model.bin") => new BlobFile(new Blob([bytes]), name);
const read = (name: string) => readPytorch(fileOf(bytesOf(name), name));

describe("readPytorch", () => {
  it.each(["zip.bin", "legacy.bin"])("gives every tensor of %s: types, views, transposes, slices", async (name) => {
    const tensors = await read(name);
    expect([...tensors.keys()]).toEqual(Object.keys(EXPECTED));
    for (const [key, { shape, values, dtype }] of Object.entries(EXPECTED)) {
      const entry = tensors.get(key);
      if (!entry) throw new Error(`no ${key}`);
      expect(entry.shape, key).toEqual(shape);
      const isFloat = /float|half/.test(dtype);
      const bytes = new Uint8Array(values.length * 4);
      // Chunks of a few elements, so that views are gathered in several runs.
      for await (const { elementStart, data } of streamTensor(entry, isFloat ? "f32" : "i32", { chunkBytes: 48 })) {
        bytes.set(data, elementStart * 4);
      }
      const got = isFloat ? new Float32Array(bytes.buffer) : new Int32Array(bytes.buffer);
      expect(Array.from(got), key).toEqual(values);
    }
  });

  it("takes the tensors out of what a trainer puts around them", async () => {
    expect([...(await read("trainer.bin")).keys()]).toEqual(["w"]);
  });

  it.each([
    ["harm.bin", "UNSUPPORTED", /"(posix|nt)\.system"/],
    ["harm_legacy.bin", "UNSUPPORTED", /"(posix|nt)\.system"/],
    ["object.bin", "UNSUPPORTED", /"__main__\.Other"/],
    ["inst.bin", "UNSUPPORTED", /opcode 0x53|opcode 0x69/],
    ["pickle.bin", "UNSUPPORTED", /another pickle/],
  ])("refuses %s and runs nothing of it", async (name, code, message) => {
    const error: unknown = await read(name).catch((e: unknown) => e);
    expect(isHeedError(error) && error.code).toBe(code);
    expect(String(error)).toMatch(message);
    expect(existsSync("/tmp/heed_was_here")).toBe(false);
  });

  it.each(["zip.bin", "legacy.bin"])("gives a typed error or tensors for damaged copies of %s", async (name) => {
    const good = bytesOf(name);
    const random = createRandom(testSeed(`damaged ${name}`, 41));
    const codes = new Map<string, number>();
    // The pickle is where damage does most: half of the changes fall there.
    const pickleAt = Math.max(0, indexOf(good, "collections"));
    for (let run = 0; run < (process.env["HEED_LONG"] === "1" ? 10_000 : 300); run++) {
      const bytes = good.slice(0, random.int(0, 5) === 0 ? random.int(0, good.length) : good.length);
      for (let n = random.int(1, 5); n > 0 && bytes.length > 0; n--) {
        const at = random.int(0, 1) === 0 ? pickleAt + random.int(0, 1500) : random.int(0, bytes.length - 1);
        if (at < bytes.length) bytes[at] = random.int(0, 255);
      }
      let code = "none";
      try {
        for (const entry of (await readPytorch(fileOf(bytes))).values()) {
          for await (const chunk of entry.file.stream(entry.start, entry.end)) expect(chunk.length).toBeGreaterThan(0);
        }
      } catch (error) {
        code = isHeedError(error) ? error.code : String(error);
      }
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    expect([...codes.keys()].filter((code) => !["none", "BAD_FILE", "UNSUPPORTED"].includes(code))).toEqual([]);
    expect(codes.get("BAD_FILE")).toBeGreaterThan(0);
  });
});

describe("openCheckpoint of PyTorch's files", () => {
  const config = ["config.json", new Blob(["{}"])] as const;
  const blob = (name: string) => new Blob([bytesOf(name)]);
  const open = (...files: (readonly [string, Blob])[]) => openCheckpoint(filesSource(new Map([config, ...files])));

  it("reads pytorch_model.bin, and its shards by their index", async () => {
    expect((await open(["pytorch_model.bin", blob("zip.bin")])).tensors.size).toBe(Object.keys(EXPECTED).length);
    const map = { ...Object.fromEntries(Object.keys(EXPECTED).map((name) => [name, "a.bin"])), w: "b.bin" };
    const index = ["pytorch_model.bin.index.json", new Blob([JSON.stringify({ weight_map: map })])] as const;
    const shards = await open(index, ["a.bin", blob("legacy.bin")], ["b.bin", blob("trainer.bin")]);
    expect(shards.tensors.get("w")?.shape).toEqual([2, 3]);
    await expect(open(index, ["a.bin", blob("legacy.bin")])).rejects.toThrow(
      /b\.bin, a shard that pytorch_model\.bin\.index\.json names, is needed/,
    );
  });

  it("says what a file of another kind is, and what to do", async () => {
    const text = (content: string | Uint8Array<ArrayBuffer>) => new Blob([content]);
    const cases: [string, Blob, RegExp][] = [
      [
        "model.safetensors",
        text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n"),
        /Git LFS pointer.*git lfs pull/,
      ],
      ["pytorch_model.bin", text("version https://git-lfs.github.com/spec/v1\n"), /Git LFS pointer/],
      ["model.safetensors", text("<!DOCTYPE html><html><body>Sign in</body></html>"), /web page.*\/resolve\//],
      ["model.safetensors", blob("zip.bin"), /PyTorch checkpoint.*pytorch_model\.bin/],
      ["model.safetensors", text("GGUF\u0003\0\0\0aaaaaaaaaaaaaaaaaaa"), /GGUF file/],
      [
        "pytorch_model.bin",
        text(Uint8Array.from([0x08, 0x07, 0x12, 0x07, ...new TextEncoder().encode("pytorch12345678")])),
        /ONNX model/,
      ],
      ["model.safetensors", text(""), /is empty/],
      [
        "pytorch_model.bin",
        new Blob(encodeSafetensors(new Map()) as Uint8Array<ArrayBuffer>[]),
        /is a safetensors file/,
      ],
      [
        "pytorch_model.bin",
        text(otherZip()),
        /is a zip archive, but no PyTorch checkpoint.*1 other entries \(a\.txt\)/,
      ],
      ["model.safetensors", text(Uint8Array.of(0x89, 0x48, 0x44, 0x46, 13, 10, 26, 10)), /HDF5 file \(Keras\)/],
    ];
    for (const [name, content, message] of cases) await expect(open([name, content])).rejects.toThrow(message);
    await expect(open(["model.onnx", text("x")])).rejects.toThrow(/model\.onnx is of a format that is not read here/);
    await expect(open(["tiny.gguf", text("x")])).rejects.toThrow(/tiny\.gguf is a whole model/);
  });
});

/** An archive of one stored, empty file. */
function otherZip(): Uint8Array<ArrayBuffer> {
  const name = [...new TextEncoder().encode("a.txt")];
  const zeros = Array<number>(16).fill(0);
  const local = [0x50, 0x4b, 3, 4, 10, 0, 0, 0, 0, 0, ...zeros, 5, 0, 0, 0, ...name];
  const central = [0x50, 0x4b, 1, 2, 10, 0, 10, 0, 0, 0, 0, 0, ...zeros, 5, 0, ...zeros, ...name];
  const end = [0x50, 0x4b, 5, 6, 0, 0, 0, 0, 1, 0, 1, 0, central.length, 0, 0, 0, local.length, 0, 0, 0, 0, 0];
  return Uint8Array.from([...local, ...central, ...end]);
}

function indexOf(bytes: Uint8Array, text: string): number {
  return Buffer.from(bytes).indexOf(text);
}
