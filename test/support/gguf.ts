/** A tensor to write: its rows as they are to lie in the file. */
export interface GgufTensorToWrite {
  /** GGML's number of the type: 0 F32, 1 F16, 8 Q8_0. */
  readonly type: number;
  /** Fastest dimension last. */
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** Metadata: whole numbers become u32, others f32, unless given as `{f32}` or `{i32}`. */
export type GgufFieldToWrite =
  | string
  | number
  | boolean
  | { readonly f32: number }
  | readonly string[]
  | { readonly f32s: readonly number[] }
  | { readonly i32s: readonly number[] };

const ALIGNMENT = 32;

/** Writes a GGUF file, version 3, as the description in ggml's docs/gguf.md says. */
export function writeGguf(
  metadata: Readonly<Record<string, GgufFieldToWrite>>,
  tensors: ReadonlyMap<string, GgufTensorToWrite>,
): Uint8Array<ArrayBuffer> {
  const out = new Bytes();
  out.u32(0x46554747).u32(3).u64(tensors.size).u64(Object.keys(metadata).length);
  for (const [key, value] of Object.entries(metadata)) writeField(out.text(key), value);
  let offset = 0;
  for (const [name, { type, shape, data }] of tensors) {
    out.text(name).u32(shape.length);
    for (const size of [...shape].reverse()) out.u64(size);
    out.u32(type).u64(offset);
    offset += Math.ceil(data.length / ALIGNMENT) * ALIGNMENT;
  }
  out.pad(ALIGNMENT);
  for (const { data } of tensors.values()) out.bytes(data).pad(ALIGNMENT);
  return out.finish();
}

function writeField(out: Bytes, value: GgufFieldToWrite): void {
  if (typeof value === "string") out.u32(8).text(value);
  else if (typeof value === "boolean") out.u32(7).bytes(Uint8Array.of(value ? 1 : 0));
  else if (typeof value === "number") out.u32(4).u32(value);
  else if ("f32" in value) out.u32(6).f32(value.f32);
  else if ("f32s" in value) {
    out.u32(9).u32(6).u64(value.f32s.length);
    for (const each of value.f32s) out.f32(each);
  } else if ("i32s" in value) {
    out.u32(9).u32(5).u64(value.i32s.length);
    for (const each of value.i32s) out.u32(each >>> 0);
  } else {
    out.u32(9).u32(8).u64(value.length);
    for (const each of value) out.text(each);
  }
}

class Bytes {
  readonly #chunks: Uint8Array[] = [];
  #length = 0;

  bytes(chunk: Uint8Array): this {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    return this;
  }

  u32(value: number): this {
    return this.bytes(new Uint8Array(Uint32Array.of(value).buffer));
  }

  u64(value: number): this {
    return this.bytes(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }

  f32(value: number): this {
    return this.bytes(new Uint8Array(Float32Array.of(value).buffer));
  }

  text(value: string): this {
    const bytes = new TextEncoder().encode(value);
    return this.u64(bytes.length).bytes(bytes);
  }

  pad(alignment: number): this {
    return this.bytes(new Uint8Array((alignment - (this.#length % alignment)) % alignment));
  }

  finish(): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(this.#length);
    let at = 0;
    for (const chunk of this.#chunks) {
      out.set(chunk, at);
      at += chunk.length;
    }
    return out;
  }
}

/** What the metadata says of a Llama with that config.json. */
export function llamaMetadata(config: Readonly<Record<string, unknown>>): Record<string, GgufFieldToWrite> {
  const number = (key: string) => Number(config[key]);
  return {
    "general.architecture": "llama",
    "llama.context_length": number("max_position_embeddings"),
    "llama.embedding_length": number("hidden_size"),
    "llama.block_count": number("num_hidden_layers"),
    "llama.feed_forward_length": number("intermediate_size"),
    "llama.attention.head_count": number("num_attention_heads"),
    "llama.attention.head_count_kv": number("num_key_value_heads"),
    "llama.attention.layer_norm_rms_epsilon": { f32: number("rms_norm_eps") },
    "llama.rope.freq_base": { f32: Number(config["rope_theta"] ?? 10000) },
  };
}
