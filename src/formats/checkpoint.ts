import { HeedError, throwIfAborted } from "../core/errors.ts";
import { isObject, readJsonObject } from "../core/json.ts";
import { checkFileName, type ReadOptions, type Source } from "../core/source.ts";
import { readSafetensorsHeader, type TensorEntry } from "./safetensors.ts";

/** A published checkpoint, opened: its settings are read, its tensors are known, no tensor data is loaded. */
export interface Checkpoint {
  source: Source;
  /** `config.json`, unchecked beyond being an object: each model family checks its own. */
  config: Record<string, unknown>;
  /** `generation_config.json`, where there is one. */
  generationConfig?: Record<string, unknown>;
  /** Every tensor by its name in the checkpoint, shard by shard in the order of bytes. */
  tensors: Map<string, TensorEntry>;
}

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const MAX_CONFIG_BYTES = 4 * 2 ** 20;
const MAX_INDEX_BYTES = 16 * 2 ** 20;
const MAX_SHARDS = 1024;

/**
 * Opens the checkpoint in `source`: `config.json`, `generation_config.json` and `model.safetensors` or the shards named in
 * `model.safetensors.index.json`. Every header is validated, and index and shards must name the same tensors.
 * Throws `BAD_FILE`, `ABORTED`, and what the source throws.
 */
export async function openCheckpoint(source: Source, options: ReadOptions = {}): Promise<Checkpoint> {
  throwIfAborted(options.signal, "openCheckpoint");
  const config = await readJsonObject(source, "config.json", { ...options, maxBytes: MAX_CONFIG_BYTES });
  if (!config) throw await missingError(source, "config.json", options);
  const generationConfig = await readJsonObject(source, "generation_config.json", {
    ...options,
    maxBytes: MAX_CONFIG_BYTES,
  });
  const tensors = await openTensors(source, options);
  return generationConfig ? { source, config, generationConfig, tensors } : { source, config, tensors };
}

async function openTensors(source: Source, options: ReadOptions): Promise<Map<string, TensorEntry>> {
  const single = await source.open(SINGLE, options);
  if (single) return (await readSafetensorsHeader(single, options)).tensors;
  const index = await readJsonObject(source, INDEX, { ...options, maxBytes: MAX_INDEX_BYTES });
  if (!index) throw await missingError(source, `${SINGLE} or ${INDEX}`, options);
  return openShards(source, readWeightMap(index), options);
}

/** The index's tensors by shard, shard names checked: they come from a stranger's file. */
function readWeightMap(index: Record<string, unknown>): Map<string, Set<string>> {
  const map = index.weight_map;
  if (!isObject(map)) {
    throw indexError(
      "weight_map must be an object from tensor names to file names",
      `${JSON.stringify(map)?.slice(0, 80)}`,
    );
  }
  const shards = new Map<string, Set<string>>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== "string" || !checkFileName(file).endsWith(".safetensors")) {
      throw indexError(`the file of ${JSON.stringify(tensor)} must be a .safetensors file`, JSON.stringify(file));
    }
    const names = shards.get(file);
    if (names) names.add(tensor);
    else shards.set(file, new Set([tensor]));
  }
  if (shards.size === 0) throw indexError("weight_map must name at least one tensor", "an empty one");
  if (shards.size > MAX_SHARDS) throw indexError(`there may be at most ${MAX_SHARDS} shards`, `${shards.size}`);
  return shards;
}

async function openShards(
  source: Source,
  shards: Map<string, Set<string>>,
  options: ReadOptions,
): Promise<Map<string, TensorEntry>> {
  const tensors = new Map<string, TensorEntry>();
  for (const [fileName, names] of [...shards].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const file = await source.open(fileName, options);
    if (!file) throw await missingError(source, `${fileName}, a shard that ${INDEX} names,`, options);
    const shard = await readSafetensorsHeader(file, options);
    for (const name of names) {
      if (!shard.tensors.has(name)) {
        throw indexError(
          `${fileName} must hold ${JSON.stringify(name)}`,
          `a shard of ${shard.tensors.size} tensors without it`,
        );
      }
    }
    for (const [name, entry] of shard.tensors) {
      if (!names.has(name)) {
        throw indexError(
          `weight_map must name every tensor of ${fileName} there`,
          `${JSON.stringify(name)} in the shard only`,
        );
      }
      tensors.set(name, entry);
    }
  }
  return tensors;
}

function indexError(rule: string, got: string): HeedError {
  return new HeedError(
    "BAD_FILE",
    `openCheckpoint: ${rule}; got ${got}. ${INDEX} and the shards do not belong together.`,
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
  const other = names?.find((name) => /\.(bin|gguf|onnx|pt|pth|h5|msgpack)$/.test(name));
  const mend = other ? ` ${other} is of a format that is not read here: convert it to safetensors.` : "";
  return new HeedError("BAD_FILE", `openCheckpoint: ${need} is needed; got ${there} in ${source.description}.${mend}`);
}
