import { HeedError, throwIfAborted } from "../core/errors.ts";
import { isObject, readJsonObject } from "../core/json.ts";
import { checkFileName, type ReadOptions, type Source, type SourceFile } from "../core/source.ts";
import type { GgufValue } from "./gguf_reader.ts";
import { readSafetensorsHeader, type TensorEntry } from "./safetensors.ts";
import { readAs, sniffFile } from "./sniff.ts";

/** A published checkpoint, opened: its settings are read, its tensors are known, no tensor data is loaded. */
export interface Checkpoint {
  source: Source;
  /** `config.json`, unchecked beyond being an object: each model family checks its own. */
  config: Record<string, unknown>;
  /** `generation_config.json`, where there is one. */
  generationConfig?: Record<string, unknown>;
  /** Every tensor by its name in the checkpoint, shard by shard in the order of bytes. */
  tensors: Map<string, TensorEntry>;
  /** What a GGUF file says about itself, its tokenizer included. */
  metadata?: ReadonlyMap<string, GgufValue>;
}

/** The files in which one format's weights are published. */
interface WeightFiles {
  readonly single: string;
  readonly index: string;
  readonly ending: string;
  /** How messages call the format. */
  readonly format: string;
  readonly read: (file: SourceFile, options: ReadOptions) => Promise<Map<string, TensorEntry>>;
}

const SAFETENSORS: WeightFiles = {
  single: "model.safetensors",
  index: "model.safetensors.index.json",
  ending: ".safetensors",
  format: "a safetensors file",
  read: async (file, options) => (await readSafetensorsHeader(file, options)).tensors,
};
const PYTORCH: WeightFiles = {
  single: "pytorch_model.bin",
  index: "pytorch_model.bin.index.json",
  ending: ".bin",
  format: "a PyTorch checkpoint",
  // Most checkpoints have safetensors, and their readers need none of this.
  read: async (file, options) => (await import("./pytorch.ts")).readPytorch(file, options),
};
const MAX_CONFIG_BYTES = 4 * 2 ** 20;
const MAX_INDEX_BYTES = 16 * 2 ** 20;
const MAX_SHARDS = 1024;

/**
 * Opens the checkpoint in `source`: `config.json`, `generation_config.json` and `model.safetensors` or the shards named in
 * `model.safetensors.index.json`, or else `pytorch_model.bin` or its shards. Every header is validated, and index and shards must name the same tensors.
 * Throws `BAD_FILE`, `ABORTED`, and what the source throws.
 */
export async function openCheckpoint(source: Source, options: ReadOptions = {}): Promise<Checkpoint> {
  throwIfAborted(options.signal, "openCheckpoint");
  const gguf = await ggufFile(source, options);
  if (gguf) {
    const { openGguf } = await import("./gguf.ts");
    return readAs("a GGUF file", gguf, () => openGguf(gguf, source.description, options), options);
  }
  const config = await readJsonObject(source, "config.json", { ...options, maxBytes: MAX_CONFIG_BYTES });
  if (!config) throw await missingError(source, "config.json", options);
  const generationConfig = await readJsonObject(source, "generation_config.json", {
    ...options,
    maxBytes: MAX_CONFIG_BYTES,
  });
  const tensors = await openTensors(source, options);
  return generationConfig ? { source, config, generationConfig, tensors } : { source, config, tensors };
}

/** The GGUF file that was asked for, or the only one among chosen files. */
async function ggufFile(source: Source, options: ReadOptions): Promise<SourceFile | undefined> {
  if (source.only === undefined) return undefined;
  const file = await source.open(source.only, options);
  if (!file) throw await missingError(source, source.only, options);
  if (!source.only.endsWith(".gguf")) {
    const kind = await sniffFile(file, options);
    const got = kind ? `${source.only}, which is ${kind.what}. ${kind.mend}` : `${source.only}.`;
    throw new HeedError("BAD_FILE", `openCheckpoint: a model is a folder, or one .gguf file; got ${got}`);
  }
  return file;
}

async function openTensors(source: Source, options: ReadOptions): Promise<Map<string, TensorEntry>> {
  for (const files of [SAFETENSORS, PYTORCH]) {
    const single = await source.open(files.single, options);
    if (single) return readAs(files.format, single, () => files.read(single, options), options);
    const index = await readJsonObject(source, files.index, { ...options, maxBytes: MAX_INDEX_BYTES });
    if (index) return openShards(source, files, readWeightMap(index, files), options);
  }
  throw await missingError(source, `${SAFETENSORS.single}, ${PYTORCH.single} or an index of their shards`, options);
}

/** The index's tensors by shard, shard names checked: they come from a stranger's file. */
function readWeightMap(index: Record<string, unknown>, files: WeightFiles): Map<string, Set<string>> {
  const map = index.weight_map;
  if (!isObject(map)) {
    throw indexError(
      files,
      "weight_map must be an object from tensor names to file names",
      `${JSON.stringify(map)?.slice(0, 80)}`,
    );
  }
  const shards = new Map<string, Set<string>>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== "string" || !checkFileName(file).endsWith(files.ending)) {
      throw indexError(
        files,
        `the file of ${JSON.stringify(tensor)} must be a ${files.ending} file`,
        JSON.stringify(file),
      );
    }
    const names = shards.get(file);
    if (names) names.add(tensor);
    else shards.set(file, new Set([tensor]));
  }
  if (shards.size === 0) throw indexError(files, "weight_map must name at least one tensor", "an empty one");
  if (shards.size > MAX_SHARDS) throw indexError(files, `there may be at most ${MAX_SHARDS} shards`, `${shards.size}`);
  return shards;
}

async function openShards(
  source: Source,
  files: WeightFiles,
  shards: Map<string, Set<string>>,
  options: ReadOptions,
): Promise<Map<string, TensorEntry>> {
  const tensors = new Map<string, TensorEntry>();
  for (const [fileName, names] of [...shards].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const file = await source.open(fileName, options);
    if (!file) throw await missingError(source, `${fileName}, a shard that ${files.index} names,`, options);
    const shard = await readAs(files.format, file, () => files.read(file, options), options);
    for (const name of names) {
      if (!shard.has(name)) {
        throw indexError(
          files,
          `${fileName} must hold ${JSON.stringify(name)}`,
          `a shard of ${shard.size} tensors without it`,
        );
      }
    }
    for (const [name, entry] of shard) {
      if (!names.has(name)) {
        throw indexError(
          files,
          `weight_map must name every tensor of ${fileName} there`,
          `${JSON.stringify(name)} in the shard only`,
        );
      }
      tensors.set(name, entry);
    }
  }
  return tensors;
}

function indexError(files: WeightFiles, rule: string, got: string): HeedError {
  return new HeedError(
    "BAD_FILE",
    `openCheckpoint: ${rule}; got ${got}. ${files.index} and the shards do not belong together.`,
  );
}

async function missingError(source: Source, need: string, options: ReadOptions): Promise<HeedError> {
  const names = await source.list?.(options);
  const shown = names?.slice(0, 12).join(", ");
  const there = !names
    ? "no such file"
    : names.length === 0
      ? "no files"
      : `only ${shown}${names.length > 12 ? ", …" : ""}`;
  const other = names?.find((name) => /\.(bin|onnx|pt|pth|ckpt|h5|msgpack|tflite)$/.test(name));
  const gguf = names?.find((name) => name.endsWith(".gguf"));
  const isAdapter = names?.includes("adapter_config.json");
  const mend = gguf
    ? ` ${gguf} is a whole model: load that file.`
    : isAdapter
      ? " This is an adapter: load the model that it was made for, then the adapter beside it (--adapter)."
      : other
        ? ` ${other} is of a format that is not read here: use safetensors, pytorch_model.bin or GGUF.`
        : " Name a folder that has them, or download the missing files.";
  return new HeedError("BAD_FILE", `openCheckpoint: ${need} is needed; got ${there} in ${source.description}.${mend}`);
}
