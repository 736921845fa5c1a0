import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type AssetArray, decodeArray, readJson } from "./assets.ts";
import type { TestTensor } from "./safetensors.ts";

/** gpt-nano-sort in the Hub's terms: config.json and tensors by the names and layouts of GPT-2. */
export interface GptNanoSort {
  config: {
    architectures: string[];
    model_type: "gpt2";
    activation_function: "gelu_new";
    layer_norm_epsilon: number;
    n_layer: number;
    n_head: number;
    n_embd: number;
    n_positions: number;
    vocab_size: number;
    tie_word_embeddings: false;
  };
  tensors: Map<string, TestTensor>;
}

/** What the partials file has for one batch, B = 3, T = 11, C = 48, H = 3; `block0…2`, `ln_f`, `lm_head` too. */
export interface GptNanoSortPartials {
  /** `[B][T]` */
  ids: number[][];
  /** By the file's names; `q k v` are `[B, H, T, D]`, `att attSm` `[B, H, T, T]`, the rest `[B, T, …]`. */
  values: Map<string, { shape: number[]; data: Float64Array }>;
}

type ModelFile = Record<string, AssetArray> & { config: Record<string, unknown> };

/** The layers that minGPT keeps as `[out, in]` and GPT-2's checkpoints as `[in, out]`. */
const TRANSPOSED = /\.(c_attn|c_proj|c_fc)\.weight$/;
/** The causal mask, which minGPT saves with the weights. */
const MASK = /\.attn\.bias$/;

/** Reads and converts the model; `folder` is the asset `models/gpt-nano-sort`. */
export function readGptNanoSort(folder: string): GptNanoSort {
  const file = readJson<ModelFile>(join(folder, "gpt-nano-sort-model.json"));
  const { config, ...arrays } = file;
  const tensors = new Map<string, TestTensor>();
  for (const [name, array] of Object.entries(arrays)) {
    if (MASK.test(name)) continue;
    const data = Float32Array.from(decode(array));
    const [rows = 1, columns = 1] = array.shape;
    tensors.set(
      name.replace(/^transformer\./, ""),
      TRANSPOSED.test(name)
        ? { shape: [columns, rows], data: transpose(data, rows, columns) }
        : { shape: array.shape, data },
    );
  }
  return {
    config: {
      architectures: ["GPT2LMHeadModel"],
      model_type: "gpt2",
      activation_function: "gelu_new",
      layer_norm_epsilon: 1e-5,
      n_layer: Number(config["n_layer"]),
      n_head: Number(config["n_head"]),
      n_embd: Number(config["n_embd"]),
      n_positions: Number(config["block_size"]),
      vocab_size: Number(config["vocab_size"]),
      tie_word_embeddings: false,
    },
    tensors,
  };
}

/** Reads the intermediates that the asset has for one batch. */
export function readGptNanoSortPartials(folder: string): GptNanoSortPartials {
  const file = readJson<ModelFile>(join(folder, "gpt-nano-sort-t0-partials.json"));
  const { config: _, ...arrays } = file;
  const values = new Map<string, { shape: number[]; data: Float64Array }>();
  for (const [name, array] of Object.entries(arrays)) values.set(name, { shape: array.shape, data: decode(array) });
  const idx = values.get("idx");
  if (!idx) throw new Error("gpt-nano-sort: the partials have no idx");
  const [B = 0, T = 0] = idx.shape;
  const ids = Array.from({ length: B }, (__, b) => Array.from(idx.data.subarray(b * T, (b + 1) * T)));
  return { ids, values };
}

/** Writes config.json, model.safetensors (f32) and a three-letter tokenizer (A B C) into a folder, as the Hub has models. */
export function writeGptNanoSort(model: GptNanoSort, folder: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "config.json"), JSON.stringify(model.config, null, 2));
  const vocab = { A: 0, B: 1, C: 2 };
  const tokenizer = {
    version: "1.0",
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: null,
    post_processor: null,
    decoder: { type: "Fuse" },
    model: { type: "BPE", vocab, merges: [] },
  };
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify({ tokenizer_class: "PreTrainedTokenizerFast" }));

  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const [name, { shape, data }] of model.tensors) {
    header[name] = { dtype: "F32", shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8, " "));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const bodies = [...model.tensors.values()].map(({ data }) =>
    Buffer.from(data.buffer, data.byteOffset, data.byteLength),
  );
  writeFileSync(join(folder, "model.safetensors"), Buffer.concat([length, padded, ...bodies]));
}

function decode(array: AssetArray): Float64Array {
  return decodeArray({ ...array, dtype: array.dtype.replace(/^torch\./, "") });
}

function transpose(data: Float32Array, rows: number, columns: number): Float32Array {
  return data.map((_, i) => data[(i % rows) * columns + Math.floor(i / rows)] as number);
}
