import { blockBytes, blockElements, bytesPerElement, type StorageFormat } from "../core/dtype.ts";
import { HeedError } from "../core/errors.ts";
import type { JsonObject } from "../core/json.ts";
import { readTextOf, type ReadOptions, type Source, type SourceFile } from "../core/source.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { archNumber, ggufConfig } from "./gguf_config.ts";
import { GGUF_NAMING, hubName } from "./gguf_names.ts";
import { ggufError, type GgufHeader, type GgufTensor, readGgufHeader } from "./gguf_reader.ts";
import { HeadRowsFile, LessOneFile } from "./row_files.ts";
import type { TensorEntry } from "./safetensors.ts";

const TYPES: ReadonlyMap<number, StorageFormat> = new Map<number, StorageFormat>([
  [0, "f32"],
  [1, "f16"],
  [2, "q4_0"],
  [8, "q8_0"],
  [12, "q4_k"],
  [13, "q5_k"],
  [14, "q6_k"],
  [24, "i8"],
  [25, "i16"],
  [26, "i32"],
  [27, "i64"],
  [28, "f64"],
  [30, "bf16"],
]);

/** The names of types that files have and Heed does not read. */
const OTHER_TYPES: ReadonlyMap<number, string> = new Map(
  Object.entries({
    ...{ 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS" },
    ...{ 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 29: "IQ1_M", 34: "TQ1_0" },
    ...{ 35: "TQ2_0", 39: "MXFP4" },
  }).map(([type, name]) => [Number(type), name]),
);

/**
 * Opens a GGUF file as the checkpoint that it was converted from: a config, tensors under the Hub's names and in the Hub's order of
 * rows, their bytes as they are. Its tokenizer and chat template stay in `metadata`. Throws `BAD_FILE`, `UNSUPPORTED`.
 */
export async function openGguf(file: SourceFile, description: string, options: ReadOptions = {}): Promise<Checkpoint> {
  const header = await readGgufHeader(file, options);
  const { metadata } = header;
  const arch = String(metadata.get("general.architecture"));
  const naming = GGUF_NAMING.get(arch);
  if (!naming) {
    throw new HeedError(
      "UNSUPPORTED",
      `gguf: the architecture ${JSON.stringify(arch.slice(0, 40))} (general.architecture) is not read; Heed reads ${[...GGUF_NAMING.keys()].join(", ")}. Load the Hub's checkpoint of the model.`,
    );
  }
  const byName = new Map(header.tensors.map((tensor) => [tensor.name, tensor]));
  const embedding = byName.get("token_embd.weight");
  if (!embedding) throw ggufError(file, "a model must have token_embd.weight", `${byName.size} tensors without it`);
  const context: EntryContext = { file, header, arch };
  const tensors = new Map<string, TensorEntry>();
  for (const tensor of header.tensors) {
    const name = hubName(naming, tensor.name);
    if (name === undefined && tensor.name === "rope_freqs.weight") continue;
    tensors.set(name ?? tensor.name, entryOf(context, tensor, name ?? tensor.name));
  }
  const ropeFactors = await readRopeFactors(context, byName.get("rope_freqs.weight"), options);
  const [vocabSize = 0] = embedding.shape;
  const config = ggufConfig({ arch, metadata, vocabSize, hasOutput: byName.has("output.weight"), ropeFactors });
  const generationConfig = generationOf(header);
  return {
    source: ggufSource(description, { config, generationConfig, header }),
    config,
    generationConfig,
    tensors,
    metadata,
  };
}

interface EntryContext {
  readonly file: SourceFile;
  readonly header: GgufHeader;
  readonly arch: string;
}

function entryOf({ file, header, arch }: EntryContext, tensor: GgufTensor, name: string): TensorEntry {
  const { shape } = tensor;
  const format = TYPES.get(tensor.type);
  const start = header.dataStart + tensor.offset;
  if (!format) return unreadable(file, tensor, name);
  const columns = shape.at(-1) ?? 1;
  const elements = shape.reduce((product, d) => product * d, 1);
  const end = start + elements * bytesPerElement(format);
  if (columns % blockElements(format) !== 0 || !Number.isSafeInteger(end) || !(end <= file.sizeBytes)) {
    throw ggufError(
      file,
      `the elements of ${JSON.stringify(tensor.name.slice(0, 80))} must lie in the file`,
      `${format} [${shape.join(", ")}] at ${start}`,
    );
  }
  const place = { name, format, storedAs: format.toUpperCase(), shape, linear: true };
  const rowBytes = shape.length < 2 ? bytesPerElement(format) : (columns / blockElements(format)) * blockBytes(format);
  const heads = arch === "llama" && /\.attn_[qk]\.(weight|bias)$/.test(tensor.name);
  const headDim = heads ? headSize({ file, header, arch }, tensor) : 0;
  if (heads) {
    const turned = new HeadRowsFile(file, { start, end, rowBytes, headDim });
    return { ...place, file: turned, start: 0, end: turned.sizeBytes };
  }
  if (arch.startsWith("gemma") && tensor.name.endsWith("norm.weight") && format === "f32") {
    return { ...place, file: new LessOneFile(file, start, end), start: 0, end: end - start };
  }
  return { ...place, file, start, end };
}

function headSize({ file, header, arch }: EntryContext, { name, shape }: GgufTensor): number {
  const facts = { arch, metadata: header.metadata };
  const queries = archNumber(facts, "attention.head_count") ?? 0;
  const count = name.includes(".attn_q.") ? queries : (archNumber(facts, "attention.head_count_kv") ?? queries);
  const size = (shape[0] ?? 0) / count;
  if (Number.isInteger(size) && size % 2 === 0 && size > 0) return size;
  throw ggufError(file, `the rows of ${name} must be those of ${count} heads`, `${shape[0]}`);
}

/** A tensor of a type that Heed cannot read: there to be listed; asking for its format throws. */
function unreadable(file: SourceFile, tensor: GgufTensor, name: string): TensorEntry {
  const storedAs = OTHER_TYPES.get(tensor.type) ?? `type ${tensor.type}`;
  return {
    name,
    storedAs,
    shape: tensor.shape,
    file,
    start: 0,
    end: 0,
    get format(): StorageFormat {
      throw new HeedError(
        "UNSUPPORTED",
        `gguf: tensors must be F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K or Q6_K; ${tensor.name.slice(0, 80)} is ${storedAs} in ${file.name}. Use a file such as Q4_K_M or Q8_0.`,
      );
    },
  };
}

async function readRopeFactors(
  { file, header }: EntryContext,
  tensor: GgufTensor | undefined,
  options: ReadOptions,
): Promise<Float32Array | undefined> {
  if (!tensor) return undefined;
  const [count = 0] = tensor.shape;
  const start = header.dataStart + tensor.offset;
  if (tensor.type !== 0 || tensor.shape.length !== 1 || count > 1024 || start + 4 * count > file.sizeBytes) {
    throw ggufError(file, "rope_freqs.weight must be a short list of f32", `[${tensor.shape.join(", ")}]`);
  }
  return new Float32Array(Uint8Array.from(await file.read(start, start + 4 * count, options)).buffer);
}

function generationOf({ metadata }: GgufHeader): JsonObject {
  const id = (name: string) => metadata.get(`tokenizer.ggml.${name}_token_id`);
  const ends = ["eos", "eot", "eom"].map(id).filter((value) => typeof value === "number");
  return {
    ...(id("bos") !== undefined && { bos_token_id: id("bos") }),
    ...(ends.length > 0 && { eos_token_id: [...new Set(ends)] }),
  };
}

interface Described {
  readonly config: JsonObject;
  readonly generationConfig: JsonObject;
  readonly header: GgufHeader;
}

/** The small files that the Hub has beside the weights, as far as the metadata says what is in them. */
function ggufSource(description: string, { config, generationConfig, header: { metadata } }: Described): Source {
  const tokens = metadata.get("tokenizer.ggml.tokens");
  const token = (name: string) => {
    const id = metadata.get(`tokenizer.ggml.${name}_token_id`);
    return Array.isArray(tokens) && typeof id === "number" ? tokens[id] : undefined;
  };
  const template = metadata.get("tokenizer.chat_template");
  const tokenizerConfig = {
    ...(typeof template === "string" && { chat_template: template }),
    ...Object.fromEntries(
      ["bos", "eos", "unk"].map((name) => [`${name}_token`, token(name === "unk" ? "unknown" : name)]),
    ),
    ...(token("padding") !== undefined && { pad_token: token("padding") }),
  };
  const files = {
    "config.json": config,
    "generation_config.json": generationConfig,
    "tokenizer_config.json": tokenizerConfig,
  };
  const texts = new Map(Object.entries(files).map(([name, value]) => [name, JSON.stringify(value)]));
  const source: Source = {
    description,
    open: async (name) => {
      const text = texts.get(name);
      return text === undefined ? undefined : textFile(name, text);
    },
    list: async () => [...texts.keys()],
    readText: (name, options) => readTextOf(source, name, options),
  };
  return source;
}

function textFile(name: string, text: string): SourceFile {
  const bytes = new TextEncoder().encode(text);
  return {
    name,
    sizeBytes: bytes.length,
    async *stream(start, end) {
      yield bytes.slice(start, end);
    },
    read: async (start, end) => bytes.slice(start, end),
  };
}
