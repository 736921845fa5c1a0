import { HeedError } from "../core/errors.ts";
import { readJsonObject } from "../core/json.ts";
import type { ReadOptions, Source } from "../core/source.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { readSafetensorsHeader, type TensorEntry } from "../formats/safetensors.ts";
import { readTensorF32 } from "../formats/stream_tensor.ts";
import { encodeSafetensors, type TensorToWrite } from "../formats/safetensors_write.ts";
import { type LinearModule, type LoraConfig, type LoraLayer, parseLoraConfig } from "./lora.ts";

const PREFIX = "base_model.model.";
const CONFIG_FILE = "adapter_config.json";
const WEIGHTS_FILE = "adapter_model.safetensors";

/** One layer of an adapter, on the host, in the weights' row order. */
export interface LoraMatrices {
  readonly module: LinearModule;
  /** `[r, K]`. */
  readonly a: Float32Array<ArrayBuffer>;
  /** `[rows, r]`. */
  readonly b: Float32Array<ArrayBuffer>;
}

/** A tensor of a head, by the checkpoint's name: an adapter brings it whole (PEFT's `modules_to_save`). */
export interface SavedTensor {
  readonly name: string;
  readonly tensor: Tensor;
}

/** An adapter that was read. */
export interface LoadedLora {
  readonly config: LoraConfig;
  readonly layers: readonly LoraMatrices[];
  /** What it puts in the place of tensors of the model's head. */
  readonly saved: readonly { readonly tensor: Tensor; readonly data: Float32Array<ArrayBuffer> }[];
}

/** What {@link encodeLora} says of an adapter. */
export interface EncodeLoraOptions {
  /** The name of the model that it belongs to. */
  readonly base?: string;
  readonly taskType?: string;
  readonly fanInFanOut?: boolean;
  /** Trained beside it. */
  readonly saved?: readonly SavedTensor[];
}

/** The files of an adapter as PEFT writes and loads them, by name. */
export async function encodeLora(
  layers: readonly LoraLayer[],
  config: LoraConfig,
  options: EncodeLoraOptions = {},
): Promise<Map<string, Uint8Array[]>> {
  const { saved = [] } = options;
  const tensors = new Map<string, TensorToWrite>();
  for (const { name, tensor } of saved) {
    const data = new Float32Array(await tensor.read());
    tensors.set(`${PREFIX}${name}`, { format: "f32", shape: tensor.shape, data });
  }
  for (const { module, a, b } of layers) {
    const [r = 0] = a.shape;
    const matrix = hubRows(new Float32Array(await b.read()), module, r);
    tensors.set(`${PREFIX}${module.name}.lora_A.weight`, {
      format: "f32",
      shape: a.shape,
      data: new Float32Array(await a.read()),
    });
    tensors.set(`${PREFIX}${module.name}.lora_B.weight`, { format: "f32", shape: b.shape, data: matrix });
  }
  const fields = {
    peft_type: "LORA",
    task_type: options.taskType ?? null,
    base_model_name_or_path: options.base ?? null,
    r: config.rank,
    lora_alpha: config.alpha,
    lora_dropout: config.dropout,
    use_rslora: config.rankStabilized ?? false,
    // PEFT would find other layers by that word than those that are here.
    target_modules: config.targets === "all-linear" ? layers.map(({ module }) => module.name) : config.targets,
    modules_to_save: saved.length > 0 ? modulesOf(saved) : null,
    bias: "none",
    fan_in_fan_out: options.fanInFanOut ?? false,
    inference_mode: true,
  };
  return new Map([
    [CONFIG_FILE, [new TextEncoder().encode(`${JSON.stringify(fields, null, 2)}\n`)]],
    [WEIGHTS_FILE, encodeSafetensors(tensors, { format: "pt" })],
  ]);
}

/** The layers that tensors belong to: `classifier` of `classifier.weight`; also of RoBERTa's `classifier.dense.weight`, as PEFT adds that one itself. */
function modulesOf(saved: readonly SavedTensor[]): string[] {
  return [...new Set(saved.map(({ name }) => name.replace(/^classifier\..+$/, "classifier").replace(/\.[^.]+$/, "")))];
}

/** How {@link readLora} reads. */
export interface ReadLoraOptions extends ReadOptions {
  /** The model's head, which an adapter may bring whole. */
  readonly head?: readonly SavedTensor[];
}

/**
 * Reads an adapter in PEFT's format for a model with the given linear layers. Throws `BAD_FILE` for files that are missing, incomplete or
 * of another model, `UNSUPPORTED` for kinds of adapter that are not known.
 */
export async function readLora(
  source: Source,
  modules: readonly LinearModule[],
  prefixes: readonly string[],
  { head = [], ...options }: ReadLoraOptions = {},
): Promise<LoadedLora> {
  // A run of `heed finetune` keeps its adapter in a folder of its own.
  const inside = (await source.open(CONFIG_FILE, options)) ? "" : "adapter/";
  const json = await readJsonObject(source, `${inside}${CONFIG_FILE}`, options);
  const file = await source.open(`${inside}${WEIGHTS_FILE}`, options);
  if (!json || !file) {
    throw new HeedError(
      "BAD_FILE",
      `lora: ${source.description} must hold ${CONFIG_FILE} and ${WEIGHTS_FILE}, itself or in adapter/; got ${json ? "no weights" : "no config"}. Name the folder of an adapter in PEFT's format.`,
    );
  }
  const config = parseLoraConfig(json);
  const { tensors } = await readSafetensorsHeader(file, options);
  const find = finder(modules, prefixes);
  const findSaved = finder(head, prefixes);
  const whole = json["modules_to_save"] ?? [];
  const isWhole = Array.isArray(whole) && whole.length > 0;
  const saved: LoadedLora["saved"][number][] = [];
  const pairs = new Map<LinearModule, { a?: TensorEntry; b?: TensorEntry }>();
  for (const [name, entry] of tensors) {
    const [, path = "", side] = /^base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight$/.exec(name) ?? [];
    const own = side === undefined && isWhole ? findSaved(name.replace(PREFIX, "")) : undefined;
    if (own) {
      const data = await readMatrix(entry, { shape: own.tensor.shape, name: own.name }, options);
      saved.push({ tensor: own.tensor, data });
      continue;
    }
    if (side === undefined && isWhole) {
      throw new HeedError(
        "UNSUPPORTED",
        `lora: the adapter brings a head of its own (modules_to_save), of which the model has no ${name.replace(PREFIX, "")}. Load it beside a checkpoint with that head, or load the model with the adapter merged.`,
      );
    }
    const module = side === undefined ? undefined : find(path);
    if (!module) {
      throw new HeedError(
        "BAD_FILE",
        `lora: each tensor must belong to a linear layer of the model; got ${name}. Check that adapter and model belong together.`,
      );
    }
    const pair = pairs.get(module) ?? {};
    pairs.set(module, { ...pair, [side === "A" ? "a" : "b"]: entry });
  }
  const layers: LoraMatrices[] = [];
  for (const [module, { a, b }] of pairs) {
    const { rows, columns, name } = module;
    layers.push({
      module,
      a: await readMatrix(a, { shape: [config.rank, columns], name: `${name}.lora_A` }, options),
      b: heedRows(
        await readMatrix(b, { shape: [rows, config.rank], name: `${name}.lora_B` }, options),
        module,
        config.rank,
      ),
    });
  }
  return { config, layers, saved };
}

/** Finds a layer or tensor by its name, or by its name behind or before one of the family's prefixes. */
function finder<Named extends { readonly name: string }>(
  all: readonly Named[],
  prefixes: readonly string[],
): (path: string) => Named | undefined {
  const bare = (name: string): string => {
    const prefix = prefixes.find((p) => name.startsWith(p));
    return prefix === undefined ? name : name.slice(prefix.length);
  };
  const byName = new Map(all.map((named) => [bare(named.name), named]));
  return (path) => byName.get(bare(path));
}

async function readMatrix(
  entry: TensorEntry | undefined,
  { shape, name }: { readonly shape: readonly number[]; readonly name: string },
  options: ReadOptions,
): Promise<Float32Array<ArrayBuffer>> {
  if (!entry || entry.shape.join() !== shape.join()) {
    throw new HeedError(
      "BAD_FILE",
      `lora: ${name} must be [${shape.join(", ")}]; got ${entry ? `[${entry.shape.join(", ")}]` : "none"}.`,
    );
  }
  return readTensorF32(entry, options);
}

/** Rows `[parts, heads, D]` to the checkpoint's `[heads, parts, D]`. */
function hubRows(b: Float32Array<ArrayBuffer>, { perHead, rows }: LinearModule, r: number): Float32Array<ArrayBuffer> {
  if (!perHead) return b;
  return permuted(b, rows, r, (part, head) => [part * perHead.heads + head, head * perHead.parts + part], perHead);
}

/** Rows `[heads, parts, D]` to the weight's `[parts, heads, D]`. */
function heedRows(b: Float32Array<ArrayBuffer>, { perHead, rows }: LinearModule, r: number): Float32Array<ArrayBuffer> {
  if (!perHead) return b;
  return permuted(b, rows, r, (part, head) => [head * perHead.parts + part, part * perHead.heads + head], perHead);
}

function permuted(
  data: Float32Array<ArrayBuffer>,
  rows: number,
  r: number,
  places: (part: number, head: number) => readonly [from: number, to: number],
  { heads, parts }: NonNullable<LinearModule["perHead"]>,
): Float32Array<ArrayBuffer> {
  const out = new Float32Array(data.length);
  const block = (rows / (heads * parts)) * r;
  for (let part = 0; part < parts; part++) {
    for (let head = 0; head < heads; head++) {
      const [from, to] = places(part, head);
      out.set(data.subarray(from * block, (from + 1) * block), to * block);
    }
  }
  return out;
}
