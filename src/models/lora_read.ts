import { isPacked } from "../core/dtype.ts";
import { HeedError } from "../core/errors.ts";
import { isObject, type JsonObject, readJsonObject } from "../core/json.ts";
import { numel, type Shape } from "../core/shape.ts";
import type { ReadOptions, Source } from "../core/source.ts";
import { readSafetensorsHeader, type TensorEntry } from "../formats/safetensors.ts";
import { readTensorF32 } from "../formats/stream_tensor.ts";
import type { Tensor } from "../gpu/tensor.ts";
import { HEAD_TENSOR } from "./head_names.ts";
import type { LinearModule, LoraConfig } from "./lora.ts";
import { parseLoraConfig, type PublishedLora } from "./lora_config.ts";
import { LORA_CONFIG_FILE, LORA_PREFIX, LORA_WEIGHTS_FILE, type LoraMatrices } from "./lora_files.ts";
import { placedRows } from "./placed_runs.ts";
import { placedValues, placeShape, placeStart, weightBytes, type WeightPlace } from "./weight_places.ts";

/** The model that an adapter is read for. */
export interface LoraBase {
  readonly modules: readonly LinearModule[];
  readonly places: readonly WeightPlace[];
  /** The family's. */
  readonly prefixes: readonly string[];
  readonly ignored: readonly RegExp[];
  /** Where the head reads the table of token embeddings: that table, and a head of its own, made when an adapter needs one. */
  readonly tied?: { readonly table: Tensor; ownHead(): Promise<WeightPlace> } | undefined;
  /** Whether several parts of the model read one table, of which PEFT changes some. */
  readonly sharesTable: boolean;
}

/** A layer of an adapter. */
export interface LoadedLayer extends LoraMatrices {
  readonly scale: number;
}

/** Bytes that an adapter puts in the place of a tensor's own. */
export interface Replacement {
  readonly tensor: Tensor;
  /** First byte. */
  readonly start: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Set where a head that is tied to the tensor is replaced alike. */
  readonly withHead?: boolean;
}

/** Matrices beside a table: `table + scale · (B · A)ᵀ`. */
export interface LoadedTable {
  readonly place: WeightPlace;
  /** `[r, V]`. */
  readonly a: Float32Array<ArrayBuffer>;
  /** `[C, r]`. */
  readonly b: Float32Array<ArrayBuffer>;
  readonly scale: number;
}

/** An adapter that was read. */
export interface LoadedLora {
  readonly config: LoraConfig;
  readonly layers: readonly LoadedLayer[];
  readonly tables: readonly LoadedTable[];
  readonly replacements: readonly Replacement[];
}

/** The tensors that a file has for one layer, by what they are. */
type Parts = Partial<Record<"A" | "B" | "magnitude" | "embedding_A" | "embedding_B" | "tokens", TensorEntry>>;

/**
 * Reads an adapter in PEFT's format. Throws `BAD_FILE` for files that are missing, incomplete or of another model, `UNSUPPORTED` for kinds
 * of adapter that are not known.
 */
export async function readLora(source: Source, base: LoraBase, options: ReadOptions = {}): Promise<LoadedLora> {
  const { json, entries } = await openLora(source, options);
  const settings = parseLoraConfig(json);
  const { layers, whole } = sorted(entries);
  const reader = new Reader(base, settings, { ...options, brought: [...whole.keys()] });
  const loaded: LoadedLayer[] = [];
  const tables: LoadedTable[] = [];
  const replacements: Replacement[] = [];
  for (const [name, entry] of whole) replacements.push(...(await reader.whole(name, entry)));
  for (const [path, parts] of layers) {
    if (parts.tokens) replacements.push(...(await reader.tokens(path, parts.tokens, json)));
    else if (parts.embedding_A || parts.embedding_B) tables.push(await reader.table(path, parts));
    else loaded.push(...(await reader.layer(path, parts)));
  }
  reader.checkWhole(new Set(whole.keys()));
  if (loaded.length + tables.length + replacements.length === 0) {
    throw new HeedError("BAD_FILE", `lora: an adapter must have tensors of the model's layers; got none.`);
  }
  // The head goes on reading the table as it is.
  if (tables.some(({ place }) => place.tensor === base.tied?.table)) await base.tied?.ownHead();
  return { config: settings.config, layers: loaded, tables, replacements };
}

async function openLora(source: Source, options: ReadOptions) {
  // A run of `heed finetune` keeps its adapter in a folder of its own.
  const inside = (await source.open(LORA_CONFIG_FILE, options)) ? "" : "adapter/";
  const json = await readJsonObject(source, `${inside}${LORA_CONFIG_FILE}`, options);
  const file = await source.open(`${inside}${LORA_WEIGHTS_FILE}`, options);
  // What PEFT wrote until 2023.
  const older = file ? undefined : await source.open(`${inside}adapter_model.bin`, options);
  if (!json || !(file ?? older)) {
    throw new HeedError(
      "BAD_FILE",
      `lora: ${source.description} must hold ${LORA_CONFIG_FILE} and ${LORA_WEIGHTS_FILE}, itself or in adapter/; got ${json ? "no weights" : "no config"}. Name the folder of an adapter in PEFT's format.`,
    );
  }
  const entries = file
    ? (await readSafetensorsHeader(file, options)).tensors
    : older && (await (await import("../formats/pytorch.ts")).readPytorch(older, options));
  return { json, entries: entries ?? new Map<string, TensorEntry>() };
}

const LAYER_TENSOR =
  /^(.+)\.(?:lora_([AB])(?:\.default)?\.weight|lora_(embedding_[AB])(?:\.default)?|lora_(magnitude)_vector(?:\.default)?(?:\.weight)?|token_adapter\.trainable_(tokens)_delta(?:\.default)?)$/;

/** Sorts a file's tensors by the layers that they are beside; what is none of those is brought whole. */
function sorted(entries: ReadonlyMap<string, TensorEntry>) {
  const layers = new Map<string, Parts>();
  const whole = new Map<string, TensorEntry>();
  for (const [name, entry] of entries) {
    const own = name.startsWith(LORA_PREFIX) ? name.slice(LORA_PREFIX.length) : name;
    const [, path, ...kinds] = LAYER_TENSOR.exec(own) ?? [];
    const kind = kinds.find((one) => one !== undefined);
    if (path !== undefined && kind) layers.set(path, { ...layers.get(path), [kind]: entry });
    else if (/\.lora_\w+(\.|$)/.test(own)) {
      throw new HeedError(
        "UNSUPPORTED",
        `lora: the adapter's kind of matrices is not known; got ${own}. Merge it with PEFT (merge_and_unload) and load the result.`,
      );
    } else if (!own.includes(".original_module."))
      whole.set(own.replace(/\.modules_to_save(\.default)?\./, "."), entry);
  }
  return { layers, whole };
}

class Reader {
  readonly #base: LoraBase;
  readonly #settings: PublishedLora;
  readonly #options: ReadOptions;
  readonly #module: (path: string) => LinearModule | undefined;
  readonly #place: (path: string) => WeightPlace | undefined;
  /** Something of the head that the model has is brought. */
  readonly #bringsHead: boolean;

  constructor(base: LoraBase, settings: PublishedLora, options: ReadOptions & { readonly brought: readonly string[] }) {
    this.#base = base;
    this.#settings = settings;
    this.#options = options;
    const [module, place] = [finder(base.modules, base.prefixes), finder(base.places, base.prefixes)];
    this.#module = (path) => module(path) ?? module(otherName(path));
    this.#place = (path) => place(path) ?? place(otherName(path));
    this.#bringsHead = options.brought.some((name) => HEAD_TENSOR.test(name) && this.#place(name) !== undefined);
  }

  /** Matrices beside a linear layer, if the model runs it: a pooler that nobody asks for has some too. */
  async layer(path: string, { A, B, magnitude }: Parts): Promise<LoadedLayer[]> {
    const head = this.#module(path) ? undefined : await this.#ownHead(`${path}.weight`);
    const module = head ? moduleOf(head) : this.#module(path);
    if (!module && this.#isUnread(`${path}.weight`)) return [];
    if (!module) throw foreign(path);
    const { rank, scale } = this.#adapted(path);
    const { rows, columns, name } = module;
    if (this.#settings.isDora !== (magnitude !== undefined)) {
      throw new HeedError(
        "BAD_FILE",
        `lora: a layer has a lora_magnitude_vector exactly where use_dora is true; got use_dora ${this.#settings.isDora} and ${magnitude ? "one" : "none"} for ${name}.`,
      );
    }
    const lengths = magnitude && (await this.#read(`${name}.lora_magnitude_vector`, magnitude, [rows]));
    return [
      {
        module,
        a: await this.#read(`${name}.lora_A`, A, [rank, columns]),
        b: placedRows(await this.#read(`${name}.lora_B`, B, [rows, rank]), module.perHead),
        magnitude: lengths && placedRows(lengths, module.perHead),
        scale,
      },
    ];
  }

  /** Matrices beside a table of embeddings. */
  async table(path: string, { embedding_A, embedding_B, magnitude }: Parts): Promise<LoadedTable> {
    const place = this.#tableAt(path);
    const { rank, scale } = this.#adapted(path);
    const { tensor, rows, name } = place;
    if (magnitude) throw unmerged("DoRA's lengths of a table's rows", path);
    if (tensor.dtype !== "f32" && tensor.dtype !== "f16") {
      throw new HeedError(
        "UNSUPPORTED",
        `lora: only a table in f32 or f16 can take matrices of its own; got ${name} in ${tensor.dtype}. Load the model with dtype f16.`,
      );
    }
    return {
      place,
      a: await this.#read(`${path}.lora_embedding_A`, embedding_A, [rank, rows]),
      b: await this.#read(`${path}.lora_embedding_B`, embedding_B, [tensor.shape[1] ?? 0, rank]),
      scale,
    };
  }

  /** Rows of a table that were trained one by one. */
  async tokens(path: string, entry: TensorEntry, json: JsonObject): Promise<Replacement[]> {
    const place = this.#tableAt(path);
    const given = json["trainable_token_indices"];
    const last = path.slice(path.lastIndexOf(".") + 1);
    const ids: unknown = isObject(given) ? (given[path] ?? given[last]) : given;
    const { tensor, rows, name } = place;
    if (!Array.isArray(ids) || !ids.every((id) => Number.isSafeInteger(id) && id >= 0 && id < rows)) {
      throw new HeedError(
        "BAD_FILE",
        `lora: trainable_token_indices must be ids of ${name}, which has ${rows}; got ${JSON.stringify(ids)}.`,
      );
    }
    const columns = tensor.shape[1] ?? 0;
    const data = await this.#read(`${path}.trainable_tokens_delta`, entry, [ids.length, columns]);
    const bytes = weightBytes(place, data);
    const rowBytes = bytes.length / Math.max(ids.length, 1);
    return (ids as number[]).map((id, i) => ({
      tensor,
      start: id * rowBytes,
      bytes: bytes.subarray(i * rowBytes, (i + 1) * rowBytes),
      withHead: true,
    }));
  }

  /** A tensor in the place of the model's. */
  async whole(name: string, entry: TensorEntry): Promise<Replacement[]> {
    const own = name.replace(".base_layer.", ".");
    const place = this.#place(own) ?? (await this.#ownHead(own));
    if (!place) {
      const isIgnored = this.#base.ignored.some((pattern) => pattern.test(own));
      // Of BERT's two heads of pre-training the model has the one that it runs.
      if (HEAD_TENSOR.test(own) && !(isIgnored && this.#bringsHead)) throw headless(own);
      if (isIgnored) return [];
      throw foreign(own);
    }
    const { tensor } = place;
    const { tied } = this.#base;
    // The base's own weight, saved beside its matrices for its name: it is kept as the model was loaded.
    if (own !== name && own.endsWith(".weight") && isPacked(tensor.dtype)) {
      this.#checkShape(own, entry, placeShape(place));
      return [];
    }
    const isTable = tensor === tied?.table;
    const isCopy = this.#settings.isWhole(own.replace(/\.[^.]+$/, ""));
    if (isTable && this.#base.sharesTable) throw unmerged("a table that several parts of the model share", own);
    // PEFT trains a copy of the table, and the head goes on reading the model's own.
    if (isTable && isCopy) await tied?.ownHead();
    const data = placedValues(place, await this.#read(own, entry, placeShape(place)));
    return [
      {
        tensor,
        start: placeStart(place),
        bytes: weightBytes(place, data),
        ...(isTable && !isCopy ? { withHead: true } : {}),
      },
    ];
  }

  /** Every tensor of the layers that `modules_to_save` names must be there. */
  checkWhole(given: ReadonlySet<string>): void {
    const places = new Set([...given].map((name) => this.#place(name.replace(".base_layer.", "."))));
    const missing = this.#base.places.find(
      (place) => this.#settings.isWhole(place.name.replace(/\.[^.]+$/, "")) && !places.has(place),
    );
    if (!missing) return;
    throw new HeedError(
      "BAD_FILE",
      `lora: an adapter must bring what modules_to_save names; it has no ${missing.name}. Save it anew, or mend ${LORA_CONFIG_FILE}.`,
    );
  }

  /** True for what checkpoints hold and the model does not read, but for other heads. */
  #isUnread(name: string): boolean {
    return !HEAD_TENSOR.test(name) && this.#base.ignored.some((pattern) => pattern.test(name));
  }

  #tableAt(path: string): WeightPlace {
    const place = this.#place(`${path}.weight`);
    if (place?.rule.shape.length !== 2) throw foreign(path);
    if (place.tensor === this.#base.tied?.table && this.#base.sharesTable) {
      throw unmerged("a table that several parts of the model share", path);
    }
    return place;
  }

  /** A head of its own for the tied one that `transformers` calls so. */
  async #ownHead(name: string): Promise<WeightPlace | undefined> {
    const isDecoders = /^(lm_head|embed_out)\.weight$/.test(name);
    const isWords = /^(cls\.predictions\.decoder|lm_head\.decoder|predictions\.decoder|vocab_projector)\.weight$/.test(
      name,
    );
    // An encoder that has such a head has its bias.
    const isThere = isDecoders || (isWords && this.#place(name.replace(/weight$/, "bias")) !== undefined);
    return isThere ? this.#base.tied?.ownHead() : undefined;
  }

  /** Rank and scale of a layer that the config has to name. */
  #adapted(path: string): { readonly rank: number; readonly scale: number } {
    if (this.#settings.isTarget(path)) return this.#settings.layer(path);
    throw new HeedError(
      "BAD_FILE",
      `lora: ${LORA_CONFIG_FILE} must target each layer that the file has matrices for; target_modules, exclude_modules, layers_to_transform or modules_to_save leave out ${path}. PEFT would not use them: mend the config, or leave the tensors out.`,
    );
  }

  async #read(name: string, entry: TensorEntry | undefined, shape: Shape): Promise<Float32Array<ArrayBuffer>> {
    return readTensorF32(this.#checkShape(name, entry, shape), this.#options);
  }

  #checkShape(name: string, entry: TensorEntry | undefined, shape: Shape): TensorEntry {
    if (entry && sameSizes(entry.shape, shape)) return entry;
    const isVocabulary = entry && shape.length === 2 && entry.shape[1] === shape[1] && !name.includes(".lora_");
    const mend = isVocabulary
      ? " The adapter was trained with another vocabulary: merge it with PEFT (merge_and_unload) and load the result."
      : "";
    throw new HeedError(
      "BAD_FILE",
      `lora: ${name} must be [${shape.join(", ")}]; got ${entry ? `[${entry.shape.join(", ")}]` : "none"}.${mend}`,
    );
  }
}

/** Some files hold a bias as `[1, V]`. */
function sameSizes(got: Shape, wanted: Shape): boolean {
  const bare = (shape: Shape) => shape.filter((n) => n !== 1).join();
  return bare(got) === bare(wanted) && numel(got) === numel(wanted);
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

/** A head's tensors have one name in checkpoints and another in newer or older versions of `transformers`. */
function otherName(path: string): string {
  const heads: Readonly<Record<string, string>> = { lm_head: "embed_out", embed_out: "lm_head" };
  const renamed = path.replace(/^(lm_head|embed_out)(?=\.weight$|$)/, (name) => heads[name] ?? name);
  return renamed.replace(/^(cls\.predictions|lm_head|predictions)\.decoder\.bias$/, "$1.bias");
}

/** The linear layer that a head's weight belongs to. */
function moduleOf({ name, tensor, rows }: WeightPlace): LinearModule {
  const columns = tensor.shape[1] ?? 0;
  return { name: name.replace(/\.weight$/, ""), weight: tensor, rowStart: 0, rows, columns, perHead: undefined };
}

function foreign(name: string): HeedError {
  return new HeedError(
    "BAD_FILE",
    `lora: each tensor must belong to a linear layer of the model, or be one of its tensors; got ${name}. Check that adapter and model belong together.`,
  );
}

function headless(name: string): HeedError {
  return new HeedError(
    "UNSUPPORTED",
    `lora: the adapter brings a head of its own (modules_to_save), of which the model has no ${name}. Load it beside a checkpoint with that head, or load the model with the adapter merged.`,
  );
}

function unmerged(what: string, path: string): HeedError {
  return new HeedError(
    "UNSUPPORTED",
    `lora: ${what} can't be changed by an adapter; got ${path}. Merge it with PEFT (merge_and_unload) and load the result.`,
  );
}
