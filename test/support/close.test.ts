import { describe, expect, it } from "vitest";
import { assertClose } from "./close.ts";
import { fromBfloat16Bits, fromFloat16Bits, roundToFloat16, toBfloat16Bits, toFloat16Bits } from "./float16.ts";
import { createRandom } from "./random.ts";
import { attentionTolerance, tolerance } from "./tolerances.ts";

const EXACT = { atol: 0, rtol: 0 };

describe("assertClose", () => {
  it("accepts what is within atol + rtol · |expected|", () => {
    assertClose(Float32Array.of(1.5, -2), [1.4, -2.2], { atol: 0.05, rtol: 0.1 });
  });

  it("names the worst index in the array's shape, and its neighbours", () => {
    const expected = new Float64Array(12);
    const actual = Float64Array.from(expected);
    actual[7] = 3;
    actual[2] = 1;
    const compare = () => assertClose(actual, expected, { atol: 0.5, rtol: 0, label: "out", shape: [3, 4] });
    expect(compare).toThrow(/out: 2 of 12 values out of tolerance/);
    expect(compare).toThrow(/worst at 7 = \[1, 3\] of \[3, 4\]: got 3, expected 0/);
    expect(compare).toThrow(/expected .*0\.0000000/);
  });

  it("refuses NaN, unequal infinities and other lengths, whatever the tolerance", () => {
    const loose = { atol: 1e9, rtol: 1e9 };
    expect(() => assertClose([Number.NaN], [0], loose)).toThrow(/got NaN/);
    expect(() => assertClose([0], [Number.NaN], loose)).toThrow(/expected NaN/);
    expect(() => assertClose([Number.POSITIVE_INFINITY], [1], loose)).toThrow(/Infinity/);
    expect(() => assertClose([1], [1, 2], loose)).toThrow(/1 values, expected 2/);
    assertClose([Number.NEGATIVE_INFINITY], [Number.NEGATIVE_INFINITY], EXACT);
  });
});

describe("float16", () => {
  it("rounds to nearest even and back", () => {
    expect([...toFloat16Bits([1, -2, 65504, 1 + 2 ** -11, 2 ** -24])]).toEqual([0x3c00, 0xc000, 0x7bff, 0x3c00, 1]);
    expect([...fromFloat16Bits(Uint16Array.of(0x3c01, 0x8000))]).toEqual([1 + 2 ** -10, -0]);
    expect(roundToFloat16([0.1])[0]).toBeCloseTo(0.1, 4);
    expect([...fromBfloat16Bits(toBfloat16Bits([1, 1 + 2 ** -8, -3.140625]))]).toEqual([1, 1, -3.140625]);
  });
});

describe("createRandom", () => {
  it("repeats with its seed and looks normal", () => {
    expect(createRandom(3).normals(4)).toEqual(createRandom(3).normals(4));
    expect(createRandom(3).normals(4)).not.toEqual(createRandom(4).normals(4));
    const x = createRandom(1).normals(20_000);
    const mean = x.reduce((a, b) => a + b) / x.length;
    const variance = x.reduce((a, b) => a + b * b, 0) / x.length;
    expect(Math.abs(mean)).toBeLessThan(0.02);
    expect(Math.abs(variance - 1)).toBeLessThan(0.03);
  });
});

describe("tolerances", () => {
  it("grow with large logits only", () => {
    expect(attentionTolerance("f32", { D: 64, maxScore: 10, maxValue: 1 })).toEqual(tolerance("f32", "attention"));
    expect(attentionTolerance("f32", { D: 64, maxScore: 1e4, maxValue: 2 }).atol).toBeGreaterThan(1e-2);
  });
});
