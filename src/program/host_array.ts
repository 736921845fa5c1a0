import { bytesPerElement, type DType, type TensorDType } from "../core/dtype.ts";

/** Numbers on the host: f32 as `Float32Array`, f16 as `Uint16Array` bit patterns, integers as they are. */
export type HostArray = Float32Array | Uint16Array | Int32Array | Uint32Array;

/** The dtype that a typed array stands for. */
export function dtypeOf(data: HostArray): DType {
  if (data instanceof Float32Array) return "f32";
  if (data instanceof Uint16Array) return "f16";
  return data instanceof Int32Array ? "i32" : "u32";
}

/** The first `count` numbers of bytes that came from the GPU, in a buffer of their own. */
export function toHostArray(bytes: ArrayBuffer, dtype: TensorDType, count: number): HostArray {
  const exact = bytes.slice(0, count * bytesPerElement(dtype));
  if (dtype === "f32") return new Float32Array(exact);
  if (dtype === "f16") return new Uint16Array(exact);
  return dtype === "i32" ? new Int32Array(exact) : new Uint32Array(exact);
}
