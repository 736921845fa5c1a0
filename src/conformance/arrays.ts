import { HeedError } from "../core/errors.ts";
import { numel } from "../core/shape.ts";
import type { ArrayTensor } from "../program/direct.ts";
import type { HostArray } from "../program/host_array.ts";

/** An array of a case's file: base64 little-endian data, row-major. */
export interface FileArray {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly data: string;
}

/** A decoded array: f16 as its bits, integers as i32, booleans as u32, everything else as f32. */
export interface CaseTensor extends ArrayTensor {
  /** The dtype in the file. */
  readonly dtype: string;
}

type Reader = (view: DataView, i: number) => number;

const FLOATS: Record<string, { bytes: number; read: Reader }> = {
  float64: { bytes: 8, read: (view, i) => view.getFloat64(8 * i, true) },
  float32: { bytes: 4, read: (view, i) => view.getFloat32(4 * i, true) },
  bfloat16: { bytes: 2, read: (view, i) => bitsToFloat(view.getUint16(2 * i, true) << 16) },
};
const INTEGERS: Record<string, { bytes: number; read: Reader }> = {
  int64: { bytes: 8, read: (view, i) => Number(view.getBigInt64(8 * i, true)) },
  uint64: { bytes: 8, read: (view, i) => Number(view.getBigUint64(8 * i, true)) },
  int32: { bytes: 4, read: (view, i) => view.getInt32(4 * i, true) },
  uint32: { bytes: 4, read: (view, i) => view.getUint32(4 * i, true) },
  int16: { bytes: 2, read: (view, i) => view.getInt16(2 * i, true) },
  uint16: { bytes: 2, read: (view, i) => view.getUint16(2 * i, true) },
  int8: { bytes: 1, read: (view, i) => view.getInt8(i) },
  uint8: { bytes: 1, read: (view, i) => view.getUint8(i) },
};

/** True if a value of a case's file is an array. */
export function isFileArray(value: unknown): value is FileArray {
  const { dtype, shape, data } = (value ?? {}) as Partial<Record<keyof FileArray, unknown>>;
  return (
    typeof dtype === "string" &&
    typeof data === "string" &&
    Array.isArray(shape) &&
    shape.every((d) => Number.isSafeInteger(d) && d >= 0)
  );
}

/** Decodes an array. Throws `UNSUPPORTED` for a dtype that is not known, `BAD_FILE` if the data does not fit the shape. */
export function decodeArray({ dtype, shape, data }: FileArray): CaseTensor {
  const bytes = bytesOf(data);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const count = numel(shape);
  const sized = (width: number): number => {
    if (bytes.byteLength === count * width) return count;
    throw new HeedError(
      "BAD_FILE",
      `conformance: ${dtype} [${shape.join(", ")}] needs ${count * width} bytes; got ${bytes.byteLength}.`,
    );
  };
  const float = FLOATS[dtype];
  if (float) {
    return { dtype, shape, data: Float32Array.from({ length: sized(float.bytes) }, (_, i) => float.read(view, i)) };
  }
  if (dtype === "float16") {
    return { dtype, shape, data: Uint16Array.from({ length: sized(2) }, (_, i) => view.getUint16(2 * i, true)) };
  }
  if (dtype === "bool") {
    return { dtype, shape, data: Uint32Array.from({ length: sized(1) }, (_, i) => (view.getUint8(i) === 0 ? 0 : 1)) };
  }
  const integer = INTEGERS[dtype];
  if (!integer) throw new HeedError("UNSUPPORTED", `arrays of dtype ${dtype}`);
  return { dtype, shape, data: Int32Array.from({ length: sized(integer.bytes) }, (_, i) => integer.read(view, i)) };
}

/** The numbers as f32. */
export function toF32(tensor: ArrayTensor): ArrayTensor<Float32Array> {
  const { shape, data } = tensor;
  if (data instanceof Float32Array) return { shape, data };
  const isHalf = data instanceof Uint16Array;
  return { shape, data: Float32Array.from(data, (x) => (isHalf ? halfToNumber(x) : x)) };
}

/** x `[…, C]` as `[N, C]` f32. */
export function rowsOf(tensor: ArrayTensor): ArrayTensor<Float32Array> {
  const columns = tensor.shape.at(-1) ?? 1;
  return { shape: [numel(tensor.shape) / columns, columns], data: toF32(tensor).data };
}

/** The axes in another order: axis i of the result is axis `order[i]` of the tensor. */
export function permute(tensor: ArrayTensor, order: readonly number[]): ArrayTensor {
  const strides = tensor.shape.map((_, i) => numel(tensor.shape.slice(i + 1)));
  const shape = order.map((axis) => tensor.shape[axis] as number);
  const from = order.map((axis) => strides[axis] as number);
  const data = tensor.data.slice();
  const at = shape.map(() => 0);
  let source = 0;
  for (let i = 0; i < data.length; i++) {
    data[i] = tensor.data[source] as number;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      at[axis] = (at[axis] as number) + 1;
      source += from[axis] as number;
      if ((at[axis] as number) < (shape[axis] as number)) break;
      source -= (from[axis] as number) * (shape[axis] as number);
      at[axis] = 0;
    }
  }
  return { shape, data };
}

/** `[…, P, D]` and `[…, S, D]` → `[…, P + S, D]`, both of one type. */
export function concatRows(first: ArrayTensor, second: ArrayTensor): ArrayTensor {
  const [p, s, width] = [first.shape.at(-2) ?? 0, second.shape.at(-2) ?? 0, first.shape.at(-1) ?? 0];
  const data = sized(first.data, first.data.length + second.data.length);
  const blocks = numel(first.shape.slice(0, -2));
  for (let b = 0; b < blocks; b++) {
    data.set(first.data.subarray(b * p * width, (b + 1) * p * width), b * (p + s) * width);
    data.set(second.data.subarray(b * s * width, (b + 1) * s * width), (b * (p + s) + p) * width);
  }
  return { shape: [...first.shape.slice(0, -2), p + s, width], data };
}

/** The last axis lengthened to `length` with `fill`. */
export function padLast(tensor: ArrayTensor, length: number, fill: number): ArrayTensor {
  const width = tensor.shape.at(-1) ?? 1;
  if (width >= length) return tensor;
  const rows = numel(tensor.shape.slice(0, -1));
  const data = sized(tensor.data, rows * length).fill(fill);
  for (let r = 0; r < rows; r++) data.set(tensor.data.subarray(r * width, (r + 1) * width), r * length);
  return { shape: [...tensor.shape.slice(0, -1), length], data };
}

/** A gain or bias repeated to the shape that it multiplies, by the rules of ONNX; undefined where it does not fit. */
export function broadcastTo(tensor: ArrayTensor<Float32Array>, shape: readonly number[]): Float32Array | undefined {
  const surplus = tensor.shape.length - shape.length;
  if (surplus > 0 && tensor.shape.slice(0, surplus).some((d) => d !== 1)) return undefined;
  const own =
    surplus > 0
      ? tensor.shape.slice(surplus)
      : [...shape.slice(0, -surplus || shape.length).map(() => 1), ...tensor.shape].slice(-shape.length);
  if (own.some((d, i) => d !== 1 && d !== shape[i])) return undefined;
  return Float32Array.from({ length: numel(shape) }, (_, flat) => {
    let index = 0;
    let rest = flat;
    let stride = 1;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      const at = rest % (shape[axis] as number);
      rest = Math.floor(rest / (shape[axis] as number));
      if (own[axis] !== 1) index += at * stride;
      stride *= own[axis] as number;
    }
    return tensor.data[index] as number;
  });
}

/** Base64 in browsers and in Node. */
function bytesOf(text: string): Uint8Array {
  try {
    const binary = atob(text);
    return Uint8Array.from({ length: binary.length }, (_, i) => binary.charCodeAt(i));
  } catch (cause) {
    throw new HeedError("BAD_FILE", "conformance: an array's data must be base64.", { cause });
  }
}

function sized<A extends HostArray>(like: A, length: number): A {
  return new (like.constructor as new (n: number) => A)(length);
}

const WORD = new DataView(new ArrayBuffer(4));

function bitsToFloat(bits: number): number {
  WORD.setInt32(0, bits);
  return WORD.getFloat32(0);
}

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
