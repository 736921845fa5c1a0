import { describe, expect, it } from "vitest";
import { type HeedError, isHeedError } from "../../src/core/errors.ts";
import { readSafetensorsHeader, type SafetensorsHeader } from "../../src/formats/safetensors.ts";
import { encodeSafetensors, type TensorToWrite } from "../../src/formats/safetensors_write.ts";
import { readTensorF32 } from "../../src/formats/stream_tensor.ts";
import { BlobFile } from "../../src/sources/files.ts";
import type { SourceFile } from "../../src/core/source.ts";

const LONG = process.env.HEED_LONG === "1";

function fileOf(bytes: Uint8Array): BlobFile {
  return new BlobFile(new Blob([bytes as Uint8Array<ArrayBuffer>]), "bad.safetensors");
}

/** A file from a header as written and a number of data bytes. */
function raw(header: string | Uint8Array, dataBytes = 0, headerBytes?: bigint): Uint8Array {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, headerBytes ?? BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

/** A file with one F32 tensor `a` [2], but for what `change` says; with 8 data bytes. */
function entry(change: Record<string, unknown>, dataBytes = 8): Uint8Array {
  return raw(JSON.stringify({ a: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...change } }), dataBytes);
}

function two(first: [number, number], second: [number, number], dataBytes = 16): Uint8Array {
  const tensor = (data_offsets: [number, number]) => ({
    dtype: "U8",
    shape: [data_offsets[1] - data_offsets[0]],
    data_offsets,
  });
  return raw(JSON.stringify({ a: tensor(first), b: tensor(second) }), dataBytes);
}

function read(bytes: Uint8Array): Promise<SafetensorsHeader> {
  return readSafetensorsHeader(fileOf(bytes));
}

const GOOD = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';

const BAD: [string, Uint8Array, RegExp][] = [
  ["an empty file", new Uint8Array(0), /at least 10 bytes; got 0/],
  ["a file shorter than its first number", new Uint8Array(7), /at least 10 bytes; got 7/],
  ["a header of no bytes", raw("{}", 8, 0n), /2 to \d+ bytes; got 0/],
  ["a header of one byte", raw("{}", 8, 1n), /2 to \d+ bytes; got 1/],
  ["a header longer than the file", raw("{}", 8, 11n), /2 to 10 bytes; got 11/],
  ["a header of 2^64 - 1 bytes", raw("{}", 8, 2n ** 64n - 1n), /at most 100000000 bytes; got 18446744073709551615/],
  ["a header of 2^53 + 1 bytes", raw("{}", 8, 2n ** 53n + 1n), /at most 100000000 bytes/],
  ["a header one byte beyond the cap", raw("{}", 8, 100_000_001n), /at most 100000000 bytes/],
  ["an array instead of an object", raw("[]"), /begins with \{; got "\[\]"/],
  ["a space before the brace", raw(" {}"), /begins with \{/],
  ["a byte order mark", raw("\ufeff{}"), /begins with \{/],
  ["a zip archive (a PyTorch file)", raw("PK\u0003\u0004 and so on"), /begins with \{; got "PK/],
  ["an object that does not end", raw('{"a":{"dtype":"F32"'), /a complete JSON object; got an end/],
  ["a name that does not end", raw('{"abc'), /a complete JSON object/],
  ["nothing after a name", raw('{"abc"'), /a name is followed by :; got the end/],
  ["a header that ends after a comma", raw(GOOD.replace(/\}$/, ","), 8), /a name in quotes comes here; got the end/],
  ["two commas", raw(GOOD.replace(/\}$/, ",,}"), 8), /a name in quotes comes here/],
  ["a name without quotes", raw("{a:1}"), /a name in quotes comes here; got "a:1\}"/],
  ["text after the brace", raw(`${GOOD}x`, 8), /only spaces follow/],
  ["a second object", raw(`${GOOD}{}`, 8), /only spaces follow/],
  ["a zero byte as padding", raw(`${GOOD}\0`, 8), /only spaces follow/],
  ["bytes that are not UTF-8 in a name", raw(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x7b, 0x7d, 0x7d)), /UTF-8/],
  ["an escape that JSON does not know", raw('{"\\x":{}}'), /JSON/],
  ["a line break in a name", raw('{"a\nb":{}}'), /JSON/],
  ["a number as value", raw('{"a":1}'), /the value of a name is an object; got "1\}/],
  ["null as value", raw('{"a":null}'), /the value of a name is an object/],
  ["a name that occurs twice", raw(`{${GOOD.slice(1, -1)},${GOOD.slice(1)}`, 8), /a name occurs once; got "a" twice/],
  [
    "a key that occurs twice",
    raw('{"a":{"dtype":"F32","dtype":"U8","shape":[2],"data_offsets":[0,8]}}', 8),
    /a key occurs once/,
  ],
  ["metadata twice", raw('{"__metadata__":{},"__metadata__":{}}'), /a name occurs once/],
  ["metadata that is no string", raw('{"__metadata__":{"a":1}}'), /__metadata__ holds strings; got number/],
  ["metadata that is an array", raw('{"__metadata__":[]}'), /is an object/],
  ["no dtype", entry({ dtype: undefined }), /dtype is a short string; got nothing/],
  ["a dtype that is a number", entry({ dtype: 3 }), /dtype is a short string; got 3/],
  ["no shape", entry({ shape: undefined }), /shape has at most 8/],
  ["a shape that is a string", entry({ shape: "2" }), /shape has at most 8 whole numbers/],
  ["a negative dimension", entry({ shape: [-2] }), /shape has at most 8 whole numbers/],
  ["a fraction as dimension", entry({ shape: [1.5] }), /shape has at most 8 whole numbers/],
  ["nine dimensions", entry({ shape: [1, 1, 1, 1, 1, 1, 1, 1, 2] }), /shape has at most 8/],
  ["a dimension beyond 2^32", entry({ shape: [2 ** 32 + 1] }), /up to 4294967296/],
  ["a dimension beyond every integer", raw(GOOD.replace("[2]", "[1e400]"), 8), /shape has at most 8/],
  [
    "a product that overflows to the right size",
    entry({ shape: [2 ** 32, 2 ** 32, 2] }),
    /F32 \[4294967296, 4294967296, 2\] has too many bytes/,
  ],
  [
    "a key that the format does not know",
    entry({ strides: [1] }),
    /its keys are dtype, shape and data_offsets; got "strides"/,
  ],
  ["no offsets", entry({ data_offsets: undefined }), /two whole numbers/],
  ["one offset", entry({ data_offsets: [0] }), /two whole numbers; got \[0\]/],
  ["three offsets", entry({ data_offsets: [0, 8, 8] }), /two whole numbers/],
  ["a negative offset", entry({ data_offsets: [-8, 0] }), /two whole numbers/],
  ["an offset beyond 2^53", entry({ data_offsets: [0, 2 ** 60] }), /two whole numbers/],
  ["offsets that run backwards", entry({ data_offsets: [8, 0] }), /run upwards; got \[8, 0\]/],
  [
    "an offset past the end",
    entry({ data_offsets: [8, 16] }),
    /lie in the file's 8 data bytes; got \[8, 16\], so the file was cut short/,
  ],
  ["a file without its last byte", entry({}, 7), /the file's 7 data bytes; got \[0, 8\], so the file was cut short/],
  ["a size that is not the shape's", entry({ shape: [3] }), /F32 \[3\] has 12 bytes; got 8/],
  ["an empty shape with the bytes of two", entry({ shape: [] }), /F32 \[\] has 4 bytes; got 8/],
  ["a zero dimension with bytes", entry({ shape: [0, 2] }), /F32 \[0, 2\] has 0 bytes; got 8/],
  ["half a byte", entry({ dtype: "F4", shape: [15] }), /F4 \[15\] has too many bytes; got 8/],
  ["bytes after the last tensor", entry({}, 9), /ends with its last tensor; got 1 bytes after it/],
  ["data without tensors", raw("{}", 4), /ends with its last tensor; got 4 bytes/],
  ["a hole before the first tensor", two([8, 12], [12, 16]), /a hole before "a"/],
  ["a hole between two tensors", two([0, 7], [8, 16]), /a hole before "b"/],
  ["two tensors that overlap", two([0, 9], [8, 16]), /an overlap before "b"/],
  ["two tensors in one place", two([0, 16], [0, 16]), /an overlap before "b"/],
  [
    "a misaligned tensor",
    raw(
      JSON.stringify({
        a: { dtype: "U8", shape: [1], data_offsets: [0, 1] },
        b: { dtype: "F32", shape: [1], data_offsets: [1, 5] },
      }),
      5,
    ),
    /"b": its offset is a multiple of 4; got 1/,
  ],
  [
    "a name of 1000 letters",
    raw(JSON.stringify({ ["n".repeat(1000)]: { dtype: "U8", shape: [0], data_offsets: [0, 0] } })),
    /at most 512 characters; got 1000/,
  ],
  ["an entry of 9 MB", raw(`{"a":{"dtype":"${"x".repeat(9e6)}"}}`), /one entry of a header has at most 4194304 bytes/],
  ["a million braces", raw(`{"a":${"{".repeat(1e6)}`), /a complete JSON object/],
  ["half a million nested objects", raw(`{"a":${'{"a":'.repeat(5e5)}1${"}".repeat(5e5)}}`), /./],
  ["an array nested 100,000 deep", raw(`{"a":{"shape":${"[".repeat(1e5)}${"]".repeat(1e5)}}}`), /./],
  [
    "100,000 tensors",
    raw(
      `{${Array.from({ length: 1e5 }, (_, i) => `"${i}":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`).join(",")}}`,
    ),
    /at most 65536 tensors/,
  ],
];

describe("readSafetensorsHeader", () => {
  it("reads names, shapes, absolute byte ranges and metadata, in the order of the bytes", async () => {
    const header = '{"b":{"dtype":"F32","shape":[2],"data_offsets":[2,10]},"__metadata__":{"format":"pt"},'.replace(
      "[2,10]",
      "[4,12]",
    );
    const bytes = raw(`${header}"a":{"dtype":"F16","shape":[1,2],"data_offsets":[0,4]}}  \n`, 12);
    const { tensors, metadata } = await read(bytes);
    const dataStart = bytes.length - 12;
    expect([...tensors.keys()]).toEqual(["a", "b"]);
    expect(tensors.get("a")).toMatchObject({
      format: "f16",
      storedAs: "F16",
      shape: [1, 2],
      start: dataStart,
      end: dataStart + 4,
    });
    expect(tensors.get("b")).toMatchObject({ format: "f32", shape: [2], start: dataStart + 4, end: dataStart + 12 });
    expect({ ...metadata }).toEqual({ format: "pt" });
  });

  it("accepts a file without tensors, empty tensors, scalars and escaped names", async () => {
    expect((await read(raw("{}"))).tensors.size).toBe(0);
    const tensors = {
      e: { dtype: "F32", shape: [0, 5], data_offsets: [4, 4] },
      s: { dtype: "I32", shape: [], data_offsets: [0, 4] },
    };
    const json = JSON.stringify({ ...tensors, z: { dtype: "U8", shape: [0], data_offsets: [0, 0] } }).replace(
      '"s"',
      '"\\u0073"',
    );
    expect([...(await read(raw(json, 4))).tensors.keys()]).toEqual(["z", "s", "e"]);
  });

  it("keeps hostile names as plain names", async () => {
    const bytes = raw(
      '{"__metadata__":{"__proto__":"x"},"__proto__":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      4,
    );
    const { tensors, metadata } = await read(bytes);
    expect(tensors.get("__proto__")?.shape).toEqual([1]);
    expect(Object.keys(metadata)).toEqual(["__proto__"]);
    expect(Object.getPrototypeOf(metadata)).toBeNull();
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
  });

  it.each([
    ["F8_E4M3", 8],
    ["U64", 1],
    ["SOMETHING_NEW", 3],
  ])("lists a tensor of the unreadable type %s, and throws only when it is asked for", async (dtype, elements) => {
    const { tensors } = await read(entry({ dtype, shape: [elements] }));
    const tensor = tensors.get("a");
    expect(tensor?.storedAs).toBe(dtype);
    expect(() => tensor?.format).toThrow(new RegExp(`"a" must be stored as F64, F32.*got ${dtype}`));
    if (!tensor) throw new Error("listed above");
    await expect(readTensorF32(tensor)).rejects.toMatchObject({ code: "UNSUPPORTED" });
  });

  it.each(BAD)("refuses %s", async (_, bytes, message) => {
    const file = fileOf(bytes);
    const start = cpuMs();
    const error = await readSafetensorsHeader(file).then(
      () => undefined,
      (reason: HeedError) => reason,
    );
    expect(error?.message).toMatch(message);
    expect(error?.message).toMatch(/^safetensors: .*; got .* in bad\.safetensors\./s);
    expect(error?.code).toBe("BAD_FILE");
    expect(cpuMs() - start).toBeLessThan(1000);
  });

  it("refuses a header of 100 MB within a second and 64 MB, whatever it holds", async () => {
    const size = 100_000_000;
    const kinds: [string, (at: number) => number][] = [
      ["spaces", (at) => (at === 0 ? 0x7b : 0x20)],
      ["braces", () => 0x7b],
      ["quotes", (at) => (at === 0 ? 0x7b : 0x22)],
    ];
    for (const [kind, byteAt] of kinds) {
      const file = syntheticFile(size + 8, size, byteAt);
      const before = usedBytes();
      const start = cpuMs();
      await expect(readSafetensorsHeader(file), kind).rejects.toMatchObject({ code: "BAD_FILE" });
      expect(cpuMs() - start, kind).toBeLessThan(1000);
      expect(usedBytes() - before, kind).toBeLessThan(64 * 2 ** 20);
    }
  });
});

/** A file whose bytes are computed; after the first eight, by `byteAt` from the header's start. */
function syntheticFile(sizeBytes: number, headerBytes: number, byteAt: (at: number) => number): SourceFile {
  const read = async (start: number, end: number) => {
    const bytes = new Uint8Array(end - start);
    if (start === 0) new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
    else bytes.fill(byteAt(1)).fill(byteAt(start - 8), 0, 1);
    return bytes;
  };
  const stream = () => {
    throw new Error("a header is read by ranges");
  };
  return { name: "large.safetensors", sizeBytes, read, stream };
}

/** Milliseconds that this process has computed: unlike the wall's, they do not grow when the machine is busy. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function usedBytes(): number {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** mulberry32: a seeded generator of integers below `n`. */
function drawFrom(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

function smallFile(): Uint8Array {
  const tensors = new Map<string, TensorToWrite>([
    ["model.embed_tokens.weight", { format: "f32", shape: [8, 4], data: new Float32Array(32) }],
    ["model.norm.weight", { format: "bf16", shape: [4], data: new Uint16Array(4) }],
    ["model.mask", { format: "bool", shape: [3], data: new Uint8Array(3) }],
  ]);
  const parts = encodeSafetensors(tensors, { format: "pt" });
  return new Uint8Array(Buffer.concat(parts));
}

type Mutation = (bytes: Uint8Array, draw: (n: number) => number) => Uint8Array;

const TOKENS = [
  "{",
  "}",
  "[",
  "]",
  '"',
  ",",
  ":",
  "-1",
  "0",
  "1e99",
  "18446744073709551615",
  "null",
  "F16",
  "\\",
  "\u0000",
  " ",
];

const MUTATIONS: Mutation[] = [
  (bytes, draw) => bytes.with(draw(bytes.length), draw(256)),
  (bytes, draw) => bytes.with(draw(bytes.length), (bytes[draw(bytes.length)] ?? 0) ^ (1 << draw(8))),
  (bytes, draw) => bytes.slice(0, draw(bytes.length)),
  (bytes, draw) => bytes.with(draw(8), draw(256)),
  (bytes, draw) => {
    const at = draw(bytes.length);
    const to = at + draw(20);
    return new Uint8Array(Buffer.concat([bytes.subarray(0, at), bytes.subarray(to)]));
  },
  (bytes, draw) => {
    const at = 8 + draw(bytes.length - 8);
    const token = Buffer.from(TOKENS[draw(TOKENS.length)] ?? "");
    return new Uint8Array(Buffer.concat([bytes.subarray(0, at), token, bytes.subarray(at + draw(2) * token.length)]));
  },
  (bytes, draw) => {
    const from = draw(bytes.length);
    return new Uint8Array(Buffer.concat([bytes, bytes.subarray(from, from + draw(64))]));
  },
];

describe("readSafetensorsHeader under mutation", () => {
  const seed = Number(process.env.HEED_SEED ?? 20240607);
  const count = LONG ? 10_000 : 100;

  it(`answers ${count} mutations with a typed error or a sound result (seed ${seed})`, {
    timeout: 600_000,
  }, async () => {
    const draw = drawFrom(seed);
    const good = smallFile();
    let refused = 0;
    for (let i = 0; i < count; i++) {
      let bytes = good;
      for (let n = draw(3); n >= 0 && bytes.length > 16; n--)
        bytes = (MUTATIONS[draw(MUTATIONS.length)] as Mutation)(bytes, draw);
      const before = usedBytes();
      const start = cpuMs();
      const problem = await problemWith(bytes);
      refused += problem.refused ? 1 : 0;
      expect({ ...problem, i, seed }).toMatchObject({ defect: undefined });
      expect(cpuMs() - start, `mutation ${i} of seed ${seed}`).toBeLessThan(1000);
      expect(usedBytes() - before, `mutation ${i} of seed ${seed}`).toBeLessThan(64 * 2 ** 20);
    }
    // A check that the mutations bite, and that not every change is refused (data bytes may be anything).
    expect(refused).toBeGreaterThan(count / 3);
    expect(refused).toBeLessThan(count);
  });
});

/** Reads a mutated file and every tensor in it; a defect is an untyped error or a tensor outside the file. */
async function problemWith(bytes: Uint8Array): Promise<{ refused: boolean; defect: string | undefined }> {
  try {
    const { tensors } = await read(bytes);
    for (const tensor of tensors.values()) {
      if (tensor.end > bytes.length || tensor.start < 8)
        return { refused: false, defect: `${tensor.name} lies outside` };
      const isFloat = ["F64", "F32", "F16", "BF16"].includes(tensor.storedAs);
      if (isFloat) await readTensorF32(tensor);
    }
    return { refused: false, defect: undefined };
  } catch (error) {
    return { refused: true, defect: isHeedError(error) ? undefined : String(error) };
  }
}
