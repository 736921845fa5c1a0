import { HeedError } from "../core/errors.ts";
import type { DType, StorageFormat } from "../core/dtype.ts";

/**
 * Converts `count` elements from the front of `input` to the front of `output`, both little-endian and starting at
 * multiples of 8 bytes of their buffers. Returns the index of the first element that the target cannot hold, or −1.
 */
export type Converter = (input: Uint8Array, output: Uint8Array, count: number) => number;

/** Largest finite f16 is 65504; what rounds beyond it becomes infinite. As f32 bits: 65520. */
const F16_OVERFLOW_BITS = 0x477ff000;
const F32_INFINITY_BITS = 0x7f800000;

/**
 * Rounds a float, given by its f32 bits, to f16 bits, to nearest, ties to even. Infinities and NaN stay what they
 * are; a finite value beyond f16 becomes infinite (IEEE 754 §4.3.1).
 */
export function f32BitsToF16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude >= F16_OVERFLOW_BITS) {
    // A NaN keeps a bit of its payload, so that it stays a NaN.
    return magnitude > F32_INFINITY_BITS ? sign | 0x7e00 : sign | 0x7c00;
  }
  if (magnitude >= 0x38800000) {
    // Normal: the exponent's bias goes from 127 to 15; half a unit less one, plus the last bit, makes ties even.
    return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  }
  if (magnitude <= 0x33000000) return sign;
  // Subnormal: the significand with its hidden bit, shifted to units of 2^-24.
  const shift = 126 - (magnitude >>> 23);
  const significand = (magnitude & 0x7fffff) | 0x800000;
  const half = (1 << (shift - 1)) - 1;
  return sign | ((significand + half + ((significand >>> shift) & 1)) >>> shift);
}

/** The f32 bits of a float given by its f16 bits; exact. */
export function f16BitsToF32Bits(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const exponent = (bits >>> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return sign | F32_INFINITY_BITS | (fraction << 13);
  if (exponent !== 0) return sign | ((exponent + 112) << 23) | (fraction << 13);
  if (fraction === 0) return sign;
  const up = Math.clz32(fraction) - 21;
  return sign | ((113 - up) << 23) | (((fraction << up) & 0x3ff) << 13);
}

let f16Table: Uint32Array | undefined;

/** All 65,536 f16 values as f32 bits: a look-up is several times as fast as the arithmetic. */
function f16ToF32Table(): Uint32Array {
  f16Table ??= Uint32Array.from({ length: 65536 }, (_, bits) => f16BitsToF32Bits(bits));
  return f16Table;
}

const u32 = (bytes: Uint8Array, count: number) => new Uint32Array(bytes.buffer, bytes.byteOffset, count);
const u16 = (bytes: Uint8Array, count: number) => new Uint16Array(bytes.buffer, bytes.byteOffset, count);
const f64 = (bytes: Uint8Array, count: number) => new Float64Array(bytes.buffer, bytes.byteOffset, count);

function copyAs(bytesEach: number): Converter {
  return (input, output, count) => {
    output.set(input.subarray(0, count * bytesEach));
    return -1;
  };
}

const f16ToF32: Converter = (input, output, count) => {
  const table = f16ToF32Table();
  const from = u16(input, count);
  const to = u32(output, count);
  for (let i = 0; i < count; i++) to[i] = table[from[i] as number] as number;
  return -1;
};

const bf16ToF32: Converter = (input, output, count) => {
  const from = u16(input, count);
  const to = u32(output, count);
  for (let i = 0; i < count; i++) to[i] = (from[i] as number) << 16;
  return -1;
};

/** Rounds f32 bits, read by `bitsAt`, to f16; one loop each for f32 and bf16 keeps both monomorphic. */
const f32ToF16: Converter = (input, output, count) => {
  const from = u32(input, count);
  const to = u16(output, count);
  for (let i = 0; i < count; i++) {
    const bits = from[i] as number;
    if (overflowsF16(bits)) return i;
    to[i] = f32BitsToF16Bits(bits);
  }
  return -1;
};

const bf16ToF16: Converter = (input, output, count) => {
  const from = u16(input, count);
  const to = u16(output, count);
  for (let i = 0; i < count; i++) {
    const bits = (from[i] as number) << 16;
    if (overflowsF16(bits)) return i;
    to[i] = f32BitsToF16Bits(bits);
  }
  return -1;
};

function overflowsF16(bits: number): boolean {
  const magnitude = bits & 0x7fffffff;
  return magnitude >= F16_OVERFLOW_BITS && magnitude < F32_INFINITY_BITS;
}

const f64ToF32: Converter = (input, output, count) => {
  const from = f64(input, count);
  const to = new Float32Array(output.buffer, output.byteOffset, count);
  for (let i = 0; i < count; i++) {
    const value = from[i] as number;
    to[i] = value;
    if (!Number.isFinite(to[i] as number) && Number.isFinite(value)) return i;
  }
  return -1;
};

const f64ToF16: Converter = (input, output, count) => {
  const from = f64(input, count);
  const to = u16(output, count);
  const single = new Float32Array(1);
  const bits = new Uint32Array(single.buffer);
  for (let i = 0; i < count; i++) {
    const value = from[i] as number;
    single[0] = value;
    const near = single[0] as number;
    // Rounding twice could err, so the first step rounds to odd: toward zero, with the last bit set where inexact.
    if (near !== value && Number.isFinite(value)) {
      bits[0] = ((bits[0] as number) - (Math.abs(near) > Math.abs(value) ? 1 : 0)) | 1;
    }
    if (Number.isFinite(value) && overflowsF16(bits[0] as number)) return i;
    to[i] = f32BitsToF16Bits(bits[0] as number);
  }
  return -1;
};

type Integers = Int8Array | Uint8Array | Int16Array | Int32Array | Uint32Array;

/** Widens or re-signs integers; an element out of `[low, high]` stops it. */
function integers(view: (bytes: Uint8Array, count: number) => Integers, low: number, high: number): Converter {
  return (input, output, count) => {
    const from = view(input, count);
    const to = u32(output, count);
    for (let i = 0; i < count; i++) {
      const value = from[i] as number;
      if (value < low || value > high) return i;
      to[i] = value;
    }
    return -1;
  };
}

/** i64 as low and high words: the value fits where the high word is only the low one's sign. */
function wideIntegers(signed: boolean): Converter {
  return (input, output, count) => {
    const from = u32(input, count * 2);
    const to = u32(output, count);
    for (let i = 0; i < count; i++) {
      const low = from[2 * i] as number;
      if (from[2 * i + 1] !== (signed && low > 0x7fffffff ? 0xffffffff : 0)) return i;
      to[i] = low;
    }
    return -1;
  };
}

const VIEWS: Partial<Record<StorageFormat, (bytes: Uint8Array, count: number) => Integers>> = {
  i32: (b, n) => new Int32Array(b.buffer, b.byteOffset, n),
  u32,
  i16: (b, n) => new Int16Array(b.buffer, b.byteOffset, n),
  i8: (b, n) => new Int8Array(b.buffer, b.byteOffset, n),
  u8: (b, n) => b.subarray(0, n),
  bool: (b, n) => b.subarray(0, n),
};

const FLOATS: Partial<Record<StorageFormat, Record<"f32" | "f16", Converter>>> = {
  f64: { f32: f64ToF32, f16: f64ToF16 },
  f32: { f32: copyAs(4), f16: f32ToF16 },
  f16: { f32: f16ToF32, f16: copyAs(2) },
  bf16: { f32: bf16ToF32, f16: bf16ToF16 },
};

/**
 * The loop that converts stored elements to `dtype`: floats to f32 or f16, to nearest even; integers and booleans to
 * i32 or u32, unchanged. Throws `UNSUPPORTED` for a pair that would change what the numbers mean.
 */
export function converterFor(format: StorageFormat, dtype: DType, what: string): Converter {
  const toFloat = dtype === "f32" || dtype === "f16" ? FLOATS[format]?.[dtype] : undefined;
  if (toFloat) return toFloat;
  if (dtype === "i32" || dtype === "u32") {
    if (format === dtype) return copyAs(4);
    if (format === "i64") return wideIntegers(dtype === "i32");
    const view = VIEWS[format];
    if (view) return dtype === "i32" ? integers(view, -(2 ** 31), 2 ** 31 - 1) : integers(view, 0, 2 ** 32 - 1);
  }
  throw new HeedError(
    "UNSUPPORTED",
    `streamTensor: floats are read as f32 or f16 and integers as i32 or u32; got ${what} in ${format} as ${dtype}.`,
  );
}
