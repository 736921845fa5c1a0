import { readTensorF32 } from "../../src/formats/stream_tensor.ts";
import type { Checkpoint } from "../../src/formats/checkpoint.ts";
import { GGUF_NAMING } from "../../src/formats/gguf_names.ts";
import { quantise } from "../../src/formats/quantise.ts";
import { toFloat16Bits } from "./float16.ts";
import type { GgufTensorToWrite } from "./gguf.ts";

const TYPES = { f32: 0, f16: 1, q8_0: 8, q4_0: 2 } as const;

/** What the matrices become. Rows that are no whole number of blocks, and vectors, stay floats. */
export type GgufMatrixType = keyof typeof TYPES;

/** The tensors of a checkpoint as llama.cpp's converter writes them for an architecture: names, order of rows, gains. */
export async function ggufTensors(
  { config, tensors }: Checkpoint,
  arch: string,
  matrices: GgufMatrixType,
): Promise<Map<string, GgufTensorToWrite>> {
  const naming = GGUF_NAMING.get(arch);
  if (!naming) throw new Error(`no names for ${arch}`);
  const stems = new Map(Object.entries(naming.inBlock).map(([gguf, hub]) => [hub, gguf]));
  const wholes = new Map(Object.entries(naming.whole).map(([gguf, hub]) => [hub, gguf]));
  const heads = Number(config["num_attention_heads"]);
  const kvHeads = Number(config["num_key_value_heads"] ?? heads);
  const out = new Map<string, GgufTensorToWrite>();
  for (const [name, entry] of tensors) {
    const hub = name.replace(/^transformer\./, "");
    const parts = new RegExp(`^${naming.block.replaceAll(".", "\\.")}(\\d+)\\.(.+)\\.(weight|bias)$`).exec(hub);
    const [stem = "", kind] = parts
      ? [stems.get(parts[2] ?? ""), parts[3]]
      : [wholes.get(hub.replace(/\.(weight|bias)$/, "")), hub.split(".").at(-1)];
    if (stem === "") continue;
    let values = await readTensorF32(entry);
    let shape = entry.shape;
    if (/c_attn|c_proj|c_fc/.test(hub) && kind === "weight") {
      values = transposed(values, shape);
      shape = [...shape].reverse();
    }
    if (arch === "llama" && /^attn_[qk]$/.test(stem))
      values = interleaved(values, shape, stem === "attn_q" ? heads : kvHeads);
    if (arch.startsWith("gemma") && stem.endsWith("norm")) values = values.map((value) => value + 1);
    out.set(`${parts ? `blk.${parts[1]}.` : ""}${stem}.${kind}`, packed(values, shape, matrices));
  }
  return out;
}

function packed(values: Float32Array, shape: readonly number[], matrices: GgufMatrixType): GgufTensorToWrite {
  const blocks = (shape.at(-1) ?? 1) % 32 === 0;
  const type = shape.length < 2 ? "f32" : matrices === "f32" || matrices === "f16" || blocks ? matrices : "f16";
  const bytes = (array: ArrayBufferView) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  const data =
    type === "f32"
      ? bytes(values)
      : type === "f16"
        ? bytes(toFloat16Bits(Float64Array.from(values)))
        : quantise(type, values);
  return { type: TYPES[type], shape, data };
}

function transposed(values: Float32Array, [rows = 0, columns = 0]: readonly number[]): Float32Array<ArrayBuffer> {
  return Float32Array.from(values, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)] as number);
}

/** Rows of each head: those that turn together beside each other. */
function interleaved(values: Float32Array, shape: readonly number[], heads: number): Float32Array<ArrayBuffer> {
  const [rows = 0, columns = 1] = shape;
  const headDim = rows / heads;
  const out = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    const within = row % headDim;
    const from = row - within + (within % 2) * (headDim / 2) + Math.floor(within / 2);
    out.set(values.subarray(from * columns, (from + 1) * columns), row * columns);
  }
  return out;
}
