import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";

/** One tensor of a test checkpoint, as f32. */
export interface TestTensor {
  shape: number[];
  data: Float32Array;
}

/** A checkpoint folder as tests read it: trusted files, f32 only, written without the code under test. */
export interface TestCheckpoint {
  config: Record<string, unknown>;
  tensors: Map<string, TestTensor>;
}

/** Reads config.json and model.safetensors of a folder. Throws on any dtype but F32. */
export function readTestCheckpoint(folder: string): TestCheckpoint {
  const config = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Record<string, unknown>;
  return { config, tensors: readTestSafetensors(join(folder, "model.safetensors")) };
}

/** The tensors of an f32 safetensors file. */
export function readTestSafetensors(path: string): Map<string, TestTensor> {
  const file = openSync(path, "r");
  try {
    const length = Number(readAt(file, 0, 8).readBigUInt64LE());
    const header = JSON.parse(readAt(file, 8, length).toString("utf8")) as Record<
      string,
      { dtype: string; shape: number[]; data_offsets: [number, number] }
    >;
    const tensors = new Map<string, TestTensor>();
    for (const [name, entry] of Object.entries(header)) {
      if (name === "__metadata__") continue;
      if (entry.dtype !== "F32") throw new Error(`${path}: ${name} is ${entry.dtype}; this reader knows F32 only`);
      const [from, to] = entry.data_offsets;
      const data = new Float32Array((to - from) / 4);
      readInto(file, new Uint8Array(data.buffer), 8 + length + from);
      tensors.set(name, { shape: entry.shape, data });
    }
    return tensors;
  } finally {
    closeSync(file);
  }
}

function readAt(file: number, position: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  readInto(file, buffer, position);
  return buffer;
}

function readInto(file: number, bytes: Uint8Array, position: number): void {
  let done = 0;
  while (done < bytes.length) {
    const count = readSync(file, bytes, done, bytes.length - done, position + done);
    if (count === 0) throw new Error("the file ends too early");
    done += count;
  }
}
