import { blockBytes, blockElements, type PackedFormat } from "../core/dtype.ts";

/**
 * The weights of packed rows as numbers, by the layouts that GGUF's documentation gives: one block after the other, plain loops.
 * Every product and difference is rounded to f32 as the reference does.
 */
export function dequantise(format: PackedFormat, blocks: Uint8Array): Float32Array {
  const view = new DataView(blocks.buffer, blocks.byteOffset, blocks.byteLength);
  const [bytes, elements] = [blockBytes(format), blockElements(format)];
  const out = new Float32Array((blocks.length / bytes) * elements);
  for (let block = 0; block * bytes < blocks.length; block++) {
    DECODERS[format](new BlockReader(view, block * bytes), out.subarray(block * elements, (block + 1) * elements));
  }
  return out;
}

const DECODERS: Record<PackedFormat, (block: BlockReader, out: Float32Array) => void> = {
  bf16(block, out) {
    const word = new DataView(new ArrayBuffer(4));
    word.setUint8(3, block.u8(1));
    word.setUint8(2, block.u8(0));
    out[0] = word.getFloat32(0, true);
  },
  q8_0(block, out) {
    for (let i = 0; i < 32; i++) out[i] = block.f16(0) * block.i8(2 + i);
  },
  q4_0(block, out) {
    for (let i = 0; i < 32; i++) out[i] = block.f16(0) * (block.half(2 + (i % 16), i >= 16) - 8);
  },
  q4_k(block, out) {
    for (let i = 0; i < 256; i++) {
      const run = Math.floor(i / 32);
      const { scale, minimum } = kScales(block, run);
      out[i] = scale * block.half(16 + Math.floor(run / 2) * 32 + (i % 32), run % 2 === 1) - minimum;
    }
  },
  q5_k(block, out) {
    for (let i = 0; i < 256; i++) {
      const run = Math.floor(i / 32);
      const { scale, minimum } = kScales(block, run);
      const low = block.half(48 + Math.floor(run / 2) * 32 + (i % 32), run % 2 === 1);
      const bit = (block.u8(16 + (i % 32)) >> run) & 1;
      out[i] = scale * (low + 16 * bit) - minimum;
    }
  },
  q6_k(block, out) {
    for (let i = 0; i < 256; i++) {
      const [half, run, place] = [Math.floor(i / 128), Math.floor((i % 128) / 32), i % 32];
      const low = block.half(half * 64 + (run % 2) * 32 + place, run >= 2);
      const high = (block.u8(128 + half * 32 + place) >> (2 * run)) & 3;
      const scale = Math.fround(block.f16(208) * block.i8(192 + Math.floor(i / 16)));
      out[i] = scale * (low + 16 * high - 32);
    }
  },
};

/** Scale and minimum of 32 weights: 6-bit numbers, those of the last four runs in two pieces. */
function kScales(block: BlockReader, run: number): { scale: number; minimum: number } {
  const at = (i: number) => block.u8(4 + i);
  const scale = run < 4 ? at(run) & 63 : (at(run + 4) & 15) + 16 * (at(run - 4) >> 6);
  const minimum = run < 4 ? at(run + 4) & 63 : (at(run + 4) >> 4) + 16 * (at(run) >> 6);
  return { scale: Math.fround(block.f16(0) * scale), minimum: Math.fround(block.f16(2) * minimum) };
}

/** The bytes of one block. */
class BlockReader {
  readonly #view: DataView;
  readonly #start: number;

  constructor(view: DataView, start: number) {
    this.#view = view;
    this.#start = start;
  }

  u8(at: number): number {
    return this.#view.getUint8(this.#start + at);
  }

  i8(at: number): number {
    return this.#view.getInt8(this.#start + at);
  }

  /** The low or the high four bits of a byte. */
  half(at: number, high: boolean): number {
    return high ? this.u8(at) >> 4 : this.u8(at) & 15;
  }

  f16(at: number): number {
    const bits = this.#view.getUint16(this.#start + at, true);
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    return bits >= 0x8000 ? -size : size;
  }
}
