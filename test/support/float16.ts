import { Float16Array } from "@petamoriken/float16";

/** The f16 bits of each number (round to nearest even), as WebGPU buffers hold them. */
export function toFloat16Bits(values: ArrayLike<number>): Uint16Array {
  const halves = Float16Array.from(values);
  return new Uint16Array(halves.buffer as ArrayBuffer, 0, halves.length).slice();
}

/** The numbers that f16 bits stand for. */
export function fromFloat16Bits(bits: Uint16Array): Float64Array {
  return Float64Array.from(new Float16Array(bits.slice().buffer));
}

/** Each number rounded to the nearest f16: what a kernel with f16 inputs sees, so what its reference must get. */
export function roundToFloat16(values: ArrayLike<number>): Float64Array {
  return fromFloat16Bits(toFloat16Bits(values));
}

/** Each number rounded to bf16 (nearest even), for checkpoints stored so. */
export function toBfloat16Bits(values: ArrayLike<number>): Uint16Array {
  const bits = new Uint32Array(Float32Array.from(values).buffer);
  return Uint16Array.from(bits, (u) => (u + 0x7fff + ((u >>> 16) & 1)) >>> 16);
}

/** The numbers that bf16 bits stand for. */
export function fromBfloat16Bits(bits: Uint16Array): Float64Array {
  return Float64Array.from(new Float32Array(Uint32Array.from(bits, (u) => u << 16).buffer));
}
