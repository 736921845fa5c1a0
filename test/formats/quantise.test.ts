import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import type { PackedFormat } from "../../src/core/dtype.ts";
import { quantise } from "../../src/formats/quantise.ts";
import { dequantise } from "../../src/reference/dequantise.ts";
import { readJson } from "../support/assets.ts";

interface Golden {
  formats: Record<PackedFormat, { blocks: string; values: string }>;
  quantised: { source: string; q8_0: string; q4_0: string };
}

const GOLDEN = readJson<Golden>(join(fileURLToPath(new URL("../fixtures", import.meta.url)), "quantised.json"));
const bytes = (text: string) => Uint8Array.from(Buffer.from(text, "base64"));
const floats = (text: string) => new Float32Array(bytes(text).buffer);

describe("packed formats", () => {
  it.each(Object.keys(GOLDEN.formats) as PackedFormat[])(
    "%s is dequantised bit for bit as by the gguf package",
    (format) => {
      const { blocks, values } = GOLDEN.formats[format];
      const got = dequantise(format, bytes(blocks));
      expect(new Uint32Array(got.buffer)).toEqual(new Uint32Array(floats(values).buffer));
    },
  );

  it.each(["q8_0", "q4_0"] as const)("%s is quantised bit for bit as by the gguf package", (format) => {
    expect(quantise(format, floats(GOLDEN.quantised.source))).toEqual(bytes(GOLDEN.quantised[format]));
  });
});
