import { describe, expect, it } from "vitest";
import { readSafetensorsHeader } from "../../src/formats/safetensors.ts";
import { encodeSafetensors, type TensorToWrite } from "../../src/formats/safetensors_write.ts";
import { BlobFile } from "../../src/sources/files.ts";

const TENSORS: [string, TensorToWrite][] = [
  ["b", { format: "f16", shape: [3], data: Uint16Array.of(1, 2, 3) }],
  ["flag", { format: "bool", shape: [], data: Uint8Array.of(1) }],
  ["a", { format: "f16", shape: [1, 1], data: Uint16Array.of(9) }],
  ["wide", { format: "i64", shape: [2], data: BigInt64Array.of(-1n, 5n) }],
  ['ünïcode "quoted"', { format: "f32", shape: [0, 7], data: new Float32Array(0) }],
];

function join(parts: Uint8Array[]): Buffer<ArrayBuffer> {
  return Buffer.from(Buffer.concat(parts));
}

describe("encodeSafetensors", () => {
  it("writes what the reader reads back: names, formats, shapes, bytes, metadata", async () => {
    const bytes = join(encodeSafetensors(new Map(TENSORS), { format: "pt", note: "line\nbreak" }));
    const { tensors, metadata } = await readSafetensorsHeader(new BlobFile(new Blob([bytes]), "x.safetensors"));
    expect({ ...metadata }).toEqual({ format: "pt", note: "line\nbreak" });
    expect(tensors.size).toBe(TENSORS.length);
    for (const [name, { format, shape, data }] of TENSORS) {
      const entry = tensors.get(name);
      expect(entry).toMatchObject({ format, shape });
      const want = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
      expect(bytes.subarray(entry?.start, entry?.end)).toEqual(want);
    }
  });

  it("gives the same bytes whatever the order, with an aligned header and falling element sizes", async () => {
    const bytes = join(encodeSafetensors(new Map(TENSORS), { a: "1", b: "2" }));
    expect(join(encodeSafetensors(new Map([...TENSORS].reverse()), { b: "2", a: "1" }))).toEqual(bytes);
    expect(bytes.readBigUInt64LE(0) % 8n).toBe(0n);
    const { tensors } = await readSafetensorsHeader(new BlobFile(new Blob([bytes]), "x.safetensors"));
    expect([...tensors.keys()]).toEqual(["wide", TENSORS[4]?.[0], "a", "b", "flag"]);
  });

  it.each([
    ["x", "f32", [3], new Float32Array(2), /"x" \[3\] f32 with 8 bytes/],
    ["__metadata__", "f32", [1], new Float32Array(1), /"__metadata__"/],
  ] as [string, TensorToWrite["format"], number[], Float32Array, RegExp][])(
    "refuses %s of the wrong length or name",
    (name, format, shape, data, message) => {
      expect(() => encodeSafetensors(new Map([[name, { format, shape, data }]]))).toThrow(message);
    },
  );
});
