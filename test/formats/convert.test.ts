import { f16round, setFloat16 } from "@petamoriken/float16";
import { describe, expect, it } from "vitest";
import type { DType, StorageFormat } from "../../src/core/dtype.ts";
import { converterFor, f16BitsToF32Bits, f32BitsToF16Bits } from "../../src/formats/convert.ts";

/** Random bits in all exponents from a seeded generator (mulberry32). */
function randomBits(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

function bitsToF32(bits: number): number {
  return new Float32Array(Uint32Array.of(bits).buffer)[0] as number;
}

function f16Bits(value: number): number {
  const view = new DataView(new ArrayBuffer(2));
  setFloat16(view, 0, value);
  return view.getUint16(0);
}

function run(
  format: StorageFormat,
  dtype: DType,
  input: ArrayBufferView,
  count: number,
): { bad: number; out: Uint8Array<ArrayBuffer> } {
  const out = new Uint8Array(count * 4);
  const bytes = new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  return { bad: converterFor(format, dtype, "t")(bytes, out, count), out };
}

describe("f32BitsToF16Bits", () => {
  it("rounds to nearest even like an independent implementation, over random bits and every tie (seed 1)", () => {
    const next = randomBits(1);
    const samples = Array.from({ length: 200_000 }, next);
    for (let h = 0; h < 0x7c00; h++) {
      const here = f16BitsToF32Bits(h);
      const tie = (here + f16BitsToF32Bits(h + 1)) / 2;
      if (h >= 0x400) samples.push(tie - 1, tie, tie + 1);
      samples.push(here);
    }
    for (const bits of samples) {
      const value = bitsToF32(bits);
      if (Number.isNaN(value)) expect(f32BitsToF16Bits(bits) & 0x7fff).toBeGreaterThan(0x7c00);
      else if (f32BitsToF16Bits(bits) !== f16Bits(value))
        expect({ bits, got: f32BitsToF16Bits(bits) }).toEqual({ bits, got: f16Bits(value) });
    }
  });

  it("rounds subnormal ties to even", () => {
    for (let h = 0; h < 0x400; h++) {
      const tie = (h + 0.5) * 2 ** -24;
      const bits = new Uint32Array(Float32Array.of(tie).buffer)[0] as number;
      expect(f32BitsToF16Bits(bits)).toBe(h + (h & 1));
    }
  });
});

describe("converterFor", () => {
  it("reads every f16 exactly as f32, infinities and NaN included", () => {
    const input = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const { out } = run("f16", "f32", input, 65536);
    const got = new Float32Array(out.buffer);
    for (let i = 0; i < 65536; i++) {
      const value = got[i] as number;
      if ((i & 0x7fff) > 0x7c00) expect(value).toBeNaN();
      else if (!Object.is(f16round(value), value) || f16Bits(value) !== i)
        expect({ i, value }).toEqual({ i, value: "exact" });
    }
  });

  it("reads bf16 as the upper half of f32", () => {
    const { out } = run("bf16", "f32", Uint16Array.of(0x3f80, 0xc0a0, 0x0001, 0x7f80), 4);
    expect([...new Uint32Array(out.buffer)]).toEqual([0x3f800000, 0xc0a00000, 0x00010000, 0x7f800000]);
  });

  it("rounds f64 to f16 once, where rounding through f32 would err", () => {
    // Just above a tie of f16: f32 rounds it onto the tie, and the tie to even goes the other way.
    const above = 1 + 2 ** -11 + 2 ** -40;
    const below = 1 + 3 * 2 ** -11 - 2 ** -40;
    const { out } = run("f64", "f16", Float64Array.of(above, below, -above, 65504, 2 ** -26, Number.NaN), 6);
    const got = [...new Uint16Array(out.buffer, 0, 6)];
    expect(got.slice(0, 5)).toEqual([0x3c01, 0x3c01, 0xbc01, 0x7bff, 0]);
    expect((got[5] ?? 0) & 0x7fff).toBeGreaterThan(0x7c00);
  });

  it.each([
    ["f32", Float32Array.of(1, 65504, 65520)],
    ["f64", Float64Array.of(1, -65519, 1e300)],
    ["bf16", Uint16Array.of(0x3f80, 0x7f80, 0x4780)],
  ] as const)("names the first finite %s that f16 cannot hold, and lets infinities pass", (format, input) => {
    expect(run(format, "f16", input, 3).bad).toBe(2);
  });

  it("narrows i64 to i32 and u32 only within their range", () => {
    const edge = BigInt64Array.of(-1n, 2n ** 31n - 1n, -(2n ** 31n), 2n ** 31n);
    const { bad, out } = run("i64", "i32", edge, 4);
    expect(bad).toBe(3);
    expect([...new Int32Array(out.buffer, 0, 3)]).toEqual([-1, 2 ** 31 - 1, -(2 ** 31)]);
    expect(run("i64", "u32", edge, 4).bad).toBe(0);
    expect(run("i64", "u32", BigInt64Array.of(2n ** 32n - 1n, 2n ** 32n), 2).bad).toBe(1);
    expect(run("i32", "u32", Int32Array.of(5, -1), 2).bad).toBe(1);
    expect(run("u32", "i32", Uint32Array.of(5, 2 ** 31), 2).bad).toBe(1);
  });

  it("widens small integers and booleans, keeping the sign", () => {
    expect([...new Int32Array(run("i8", "i32", Int8Array.of(-3, 4), 2).out.buffer)]).toEqual([-3, 4]);
    expect([...new Int32Array(run("i16", "i32", Int16Array.of(-300, 4), 2).out.buffer)]).toEqual([-300, 4]);
    expect([...new Uint32Array(run("bool", "u32", Uint8Array.of(1, 0), 2).out.buffer)]).toEqual([1, 0]);
  });

  it("refuses to read integers as floats and floats as integers", () => {
    expect(() => converterFor("i64", "f32", "ids [2] I64")).toThrow(/streamTensor: .*got ids \[2\] I64 in i64 as f32/);
    expect(() => converterFor("f32", "u32", "w")).toThrow(/in f32 as u32/);
  });
});
