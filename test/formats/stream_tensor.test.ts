import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { StorageFormat } from "../../src/core/dtype.ts";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import type { TensorEntry } from "../../src/formats/safetensors.ts";
import { readTensorF32, streamTensor } from "../../src/formats/stream_tensor.ts";
import { folderCache } from "../../src/sources/cache_folder_node.ts";
import { BlobFile } from "../../src/sources/files.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { hubSource } from "../../src/sources/hub.ts";
import type { Source, SourceFile } from "../../src/core/source.ts";
import { startHubServer } from "../support/hub_server.ts";

const LONG = process.env.HEED_LONG === "1";
const MIB = 2 ** 20;

function entryOf(format: StorageFormat, data: ArrayBufferView, file?: SourceFile): TensorEntry {
  const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  const count = "length" in data ? Number(data.length) : 0;
  const name = "model.embed_tokens.weight";
  const place = { start: 0, end: bytes.length, file: file ?? new BlobFile(new Blob([bytes]), "t.safetensors") };
  return { name, format, storedAs: format.toUpperCase(), shape: [count], ...place };
}

/** A file that hands out its bytes in pieces of odd sizes, reusing one buffer as real sources do. */
function inPieces(bytes: Uint8Array, pieceBytes: number): SourceFile {
  const stream = async function* (start: number, end: number) {
    const buffer = new Uint8Array(pieceBytes);
    for (let at = start; at < end; at += pieceBytes) {
      const piece = bytes.subarray(at, Math.min(end, at + pieceBytes));
      buffer.set(piece);
      yield buffer.subarray(0, piece.length);
      buffer.fill(0xee);
    }
  };
  return { name: "pieces", sizeBytes: bytes.length, stream, read: async (start, end) => bytes.slice(start, end) };
}

describe("streamTensor", () => {
  it.each([1, 3, 5, 64, 1000])("puts elements together from pieces of %i bytes", async (pieceBytes) => {
    const values = Float32Array.from({ length: 101 }, (_, i) => i - 50.5);
    const entry = entryOf("f32", values, inPieces(new Uint8Array(values.buffer), pieceBytes));
    expect(await readTensorF32(entry)).toEqual(values);
  });

  it("cuts chunks of chunkBytes, rounded down to 4 elements, and tells where they begin", async () => {
    const entry = entryOf("f32", new Float32Array(101));
    const seen: [number, number][] = [];
    for await (const { elementStart, data } of streamTensor(entry, "f16", { chunkBytes: 60 })) {
      seen.push([elementStart, data.length]);
    }
    expect(seen).toEqual([
      [0, 56],
      [28, 56],
      [56, 56],
      [84, 34],
    ]);
  });

  it("streams empty tensors and scalars", async () => {
    expect(await readTensorF32(entryOf("f32", new Float32Array(0)))).toEqual(new Float32Array(0));
    expect(await readTensorF32({ ...entryOf("f32", Float32Array.of(7)), shape: [] })).toEqual(Float32Array.of(7));
  });

  it("converts across chunk borders: bf16 to f32", async () => {
    const bits = Uint16Array.from({ length: 1000 }, (_, i) => 0x3f00 + i);
    const got: number[] = [];
    for await (const { data } of streamTensor(entryOf("bf16", bits), "f32", { chunkBytes: 64 })) {
      got.push(...new Uint32Array(data.slice().buffer));
    }
    expect(got).toEqual([...bits].map((b) => b * 65536));
  });

  it("names tensor, element and value that f16 cannot hold, and the way out", async () => {
    const values = new Float32Array(100);
    values[73] = -70000;
    const work = async () => {
      for await (const _ of streamTensor(entryOf("f32", values), "f16", { chunkBytes: 16 }));
    };
    await expect(work()).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message:
        "streamTensor: every element must be representable as f16; got -70000 at element 73 of " +
        "model.embed_tokens.weight [100] F32. Load with dtype f32.",
    });
  });

  it.each([
    ["i64", BigInt64Array.of(1n, 2n ** 40n), /got 1099511627776 at element 1/],
    ["u32", Uint32Array.of(1, 2 ** 31), /got 2147483648 at element 1/],
    ["f64", Float64Array.of(0, 1e39), /must be representable as f32; got 1e\+39/],
  ] as [StorageFormat, ArrayBufferView, RegExp][])("names a %s out of range", async (format, data, message) => {
    const dtype = format === "f64" ? "f32" : "i32";
    const work = async () => {
      for await (const _ of streamTensor(entryOf(format, data), dtype));
    };
    await expect(work()).rejects.toThrow(message);
  });

  it("says that a file ended early", async () => {
    const file = new BlobFile(new Blob([new Uint8Array(10)]), "t");
    await expect(readTensorF32({ ...entryOf("f32", new Float32Array(4)), file })).rejects.toMatchObject({
      code: "INTERNAL",
    });
    const lying: SourceFile = {
      ...inPieces(new Uint8Array(8), 8),
      stream: () => new BlobFile(new Blob(["12345678"]), "t").stream(0, 8),
    };
    const values = await readTensorF32({ ...entryOf("f32", new Float32Array(4)), file: lying }).catch((error) => error);
    expect(values).toMatchObject({ code: "BAD_FILE" });
  });

  it("stops between chunks when aborted", async () => {
    const stop = new AbortController();
    let chunks = 0;
    const work = async () => {
      for await (const _ of streamTensor(entryOf("f32", new Float32Array(1000)), "f32", {
        chunkBytes: 16,
        signal: stop.signal,
      })) {
        if (++chunks === 3) stop.abort();
      }
    };
    await expect(work()).rejects.toMatchObject({ code: "ABORTED" });
    expect(chunks).toBe(3);
  });
});

describe("streamTensor memory", () => {
  const tensorBytes = (LONG ? 500 : 200) * MIB;
  let folder: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "heed-large-"));
    await writeLarge(folder, tensorBytes);
  });

  afterAll(() => rm(folder, { recursive: true, force: true }));

  it(`reads ${tensorBytes / MIB} MiB from a folder within 64 MiB of heap and buffers`, {
    timeout: 120_000,
  }, async () => {
    expect(await growthOf(await folderSource(folder))).toBeLessThan(64 * MIB);
  });

  it.runIf(LONG).each([
    ["by ranges", false],
    ["through the cache", true],
  ])("reads 500 MiB from a server %s within 64 MiB of heap and buffers", { timeout: 300_000 }, async (_, cached) => {
    const server = await startHubServer();
    const names = ["config.json", "model.safetensors"];
    server.setRepo("owner/large", {
      files: Object.fromEntries(names.map((name) => [name, { path: join(folder, name) }])),
    });
    const cache = cached ? folderCache(join(folder, "cache")) : undefined;
    const source = hubSource("hf:owner/large", { endpoint: server.url, cache });
    // The server's own buffers are in this process too, so the bound holds for both.
    expect(await growthOf(source)).toBeLessThan(64 * MIB);
    await server.close();
  });
});

/** A checkpoint of one bf16 tensor, on disk as a hole: it reads as zeros and takes no space. */
async function writeLarge(folder: string, tensorBytes: number): Promise<void> {
  const shape = [tensorBytes / 2];
  const header = JSON.stringify({ w: { dtype: "BF16", shape, data_offsets: [0, tensorBytes] } });
  const bytes = Buffer.alloc(8 + header.length);
  bytes.writeBigUInt64LE(BigInt(header.length));
  bytes.write(header, 8);
  const file = await open(join(folder, "model.safetensors"), "w");
  await file.write(bytes);
  await file.truncate(bytes.length + tensorBytes);
  await file.close();
  const config = await open(join(folder, "config.json"), "w");
  await config.write("{}");
  await config.close();
}

/** Bytes by which heap and array buffers rise at most, above the start, while every tensor of a source is streamed. */
async function growthOf(source: Source): Promise<number> {
  const used = () => {
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const start = used();
  let peak = start;
  let elements = 0;
  const { tensors } = await openCheckpoint(source);
  for (const entry of tensors.values()) {
    for await (const { data } of streamTensor(entry, "f32")) {
      elements += data.length / 4;
      peak = Math.max(peak, used());
    }
    expect(elements).toBe(entry.shape[0]);
  }
  return peak - start;
}
